"""OpenStack Swift with its S3 API, from Debian's python3-swift, all in one process: proxy, account, container and object server.

Started by s3-server.ts as: s3-server.py FOLDER, with {"users": {ID: "SECRET GROUP…"}, "bucket_page": N} on stdin.
Prints {"port": N} when it answers, and ends when stdin does.
"""
import json
import logging
import os
import sys

import eventlet

eventlet.monkey_patch()

from eventlet import hubs, listen, wsgi  # noqa: E402
from swift.common import utils  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402

SERVERS = ('account', 'container', 'object')
PIPELINE = 'catch_errors bulk s3api tempauth copy slo dlo proxy-server'


class OneProcessCache:
    """As much of memcached as tempauth and the proxy ask for."""

    def __init__(self):
        self.values = {}

    def get(self, key, *args, **kwargs):
        return self.values.get(key)

    def set(self, key, value, *args, **kwargs):
        self.values[key] = value

    def delete(self, key, *args, **kwargs):
        self.values.pop(key, None)

    def incr(self, key, delta=1, *args, **kwargs):
        self.values[key] = self.values.get(key, 0) + delta
        return self.values[key]


def cached(app):
    cache = OneProcessCache()

    def call(env, start_response):
        env['swift.cache'] = cache
        return app(env, start_response)

    return call


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, 'w') as file:
        file.write(text)
    return path


def start(app, sock):
    quiet = logging.getLogger('wsgi')
    quiet.addHandler(logging.NullHandler())
    quiet.propagate = False
    # Swift's own protocol class gives S3 its raw paths.
    from swift.common.wsgi import SwiftHttpProtocol
    eventlet.spawn(wsgi.server, sock, app, quiet, protocol=SwiftHttpProtocol, capitalize_response_headers=False)


def main():
    folder = os.path.abspath(sys.argv[1])
    order = json.loads(sys.stdin.readline())
    write(folder, 'swift.conf', '[swift-hash]\nswift_hash_path_suffix = test\n')
    utils.set_swift_dir(folder)
    utils.validate_hash_conf()

    from paste.deploy import loadapp

    devices = os.path.join(folder, 'devices')
    os.makedirs(os.path.join(devices, 'disk'))
    for kind in SERVERS:
        sock = listen(('127.0.0.1', 0))
        builder = RingBuilder(part_power=2, replicas=1, min_part_hours=0)
        builder.add_dev({
            'id': 0, 'region': 1, 'zone': 1, 'weight': 1, 'device': 'disk',
            'ip': '127.0.0.1', 'port': sock.getsockname()[1],
        })
        builder.rebalance()
        builder.get_ring().save(os.path.join(folder, '%s.ring.gz' % kind))
        conf = write(folder, '%s.conf' % kind, (
            '[DEFAULT]\nswift_dir = %s\ndevices = %s\nmount_check = false\nfallocate_reserve = 0\n'
            'recon_cache_path = %s\nlog_level = ERROR\n\n[app:main]\nuse = egg:swift#%s\n'
        ) % (folder, devices, folder, kind))
        start(loadapp('config:%s' % conf), sock)

    users = ''.join('user_%s = %s\n' % (name.replace(':', '_'), key) for name, key in order['users'].items())
    sections = ''.join('[filter:%s]\nuse = egg:swift#%s\n\n' % (name, name) for name in 'catch_errors bulk copy slo dlo'.split())
    conf = write(folder, 'proxy.conf', (
        '[DEFAULT]\nswift_dir = %s\nlog_level = ERROR\n\n[pipeline:main]\npipeline = %s\n\n%s'
        '[filter:s3api]\nuse = egg:swift#s3api\nmax_bucket_listing = %d\nauth_pipeline_check = false\n\n'
        '[filter:tempauth]\nuse = egg:swift#tempauth\n%s\n'
        '[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n'
    ) % (folder, PIPELINE, sections, order['bucket_page'], users))
    sock = listen(('127.0.0.1', 0))
    start(cached(loadapp('config:%s' % conf)), sock)
    print(json.dumps({'port': sock.getsockname()[1]}), flush=True)

    # Reading without it would keep the servers from running.
    hubs.trampoline(0, read=True)
    while os.read(0, 1024):
        hubs.trampoline(0, read=True)
    os._exit(0)


main()
