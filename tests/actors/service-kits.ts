/** Actor: the data that a site has in each service, how to tell whether it is the same, and how another would get at it. */
// Long because: one table, an entry for each service.
import type { Options } from '../../receiver/service-schema.ts';
import { POSTGRES } from './suite.ts';

export interface Attack {
  what: string;
  /** Run as another site, with its own variables, and the victim's as `V_NAME`. */
  script: string;
  /** What it is told. */
  denied: RegExp;
  /** The victim itself cannot do it either. */
  nobody?: true;
}

export interface Kit {
  service: string;
  options?: Options;
  /** Puts data in; `$1` makes it differ from site to site. */
  fill: string;
  /** Changes, adds and removes some. */
  change: string;
  /** Prints the same as long as every byte is the same. */
  digest: string;
  /** Lists, for root, what it has on the node; with that of a load that has not ended. */
  there: string;
  /** Beside it: what is another after each change. */
  traces?: string;
  /** Instead of a dump: what is not one, to be made from `$DUMP` at `$WRONG`; by root. */
  wrong: Readonly<Record<string, string>>;
  attacks: readonly Attack[];
}

/** AMQP 0-9-1, as much of it as it takes to declare a queue, to publish and to get. */
export const AMQP = `
import re, socket, struct, sys
url, command, *args = sys.argv[1:]
user, password, host, vhost = re.fullmatch(r"amqp://([^:]*):([^@]*)@([^:]*):5672/(.*)", url).groups()
server = socket.create_connection((host, 5672), 10)
stream = server.makefile("rb")
short = lambda text: struct.pack("B", len(text)) + text.encode()
long = lambda data: struct.pack(">I", len(data)) + data
def frame(kind, channel, payload):
    server.sendall(struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\\xce")
def send(channel, method, payload):
    frame(1, channel, struct.pack(">HH", *method) + payload)
def read():
    try:
        kind, channel, size = struct.unpack(">BHI", stream.read(7))
    except (OSError, struct.error):
        # That is how it refuses a password.
        sys.exit("ACCESS_REFUSED")
    payload = stream.read(size)
    stream.read(1)
    return kind, payload
def expect(*wanted):
    kind, payload = read()
    method = struct.unpack(">HH", payload[:4])
    if method not in wanted:
        sys.exit(payload[7:7 + payload[6]].decode() if method in ((10, 50), (20, 40)) else f"got {method}")
    return method, payload[4:]
server.sendall(b"AMQP\\0\\0\\x09\\x01")
expect((10, 10))
send(0, (10, 11), long(b"") + short("PLAIN") + long(f"\\0{user}\\0{password}".encode()) + short("en_US"))
expect((10, 30))
send(0, (10, 31), struct.pack(">HIH", 10, 131072, 0))
send(0, (10, 40), short(vhost) + short("") + b"\\0")
expect((10, 41))
send(1, (20, 10), short(""))
expect((20, 11))
if command in ("declare", "passive"):
    send(1, (50, 10), b"\\0\\0" + short(args[0]) + struct.pack("B", 2 if command == "declare" else 1) + long(b""))
    _, answer = expect((50, 11))
    print(args[0], *struct.unpack(">I", answer[-8:-4]))
elif command == "delete":
    send(1, (50, 40), b"\\0\\0" + short(args[0]) + b"\\0")
    expect((50, 41))
elif command == "publish":
    send(1, (85, 10), b"\\0")
    expect((85, 11))
    body = args[1].encode()
    send(1, (60, 40), b"\\0\\0" + short("") + short(args[0]) + b"\\0")
    frame(2, 1, struct.pack(">HHQHB", 60, 0, len(body), 0x1000, 2))
    frame(3, 1, body)
    expect((60, 80))
elif command == "get":
    send(1, (60, 70), b"\\0\\0" + short(args[0]) + b"\\1")
    method, _ = expect((60, 71), (60, 72))
    if method == (60, 71):
        read()
        print(read()[1].decode())
`;

const asPostgres = 'setpriv --reuid postgres --regid postgres --init-groups psql -XAtq';
const amqp = (command: string, url = '$RABBITMQ_URL'): string => `python3 /usr/local/share/amqp.py "${url}" ${command}`;
const erlang = (expression: string): string =>
  `cd /var/lib/rabbitmq; echo '${expression}' | HOME=$PWD setpriv --reuid rabbitmq --regid rabbitmq --init-groups erl_call -sname rabbit -e`;
const redis = (command: string, socket = '$REDIS_SOCKET'): string => `redis-cli -e -s "${socket}" ${command}`;
const memcached = (socket: string): string =>
  `python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(b"stats\\r\\n"); print(s.recv(9))' "${socket}"`;
/** Owners are told by name: they must be right, too. */
const tree = (folder: string): string => `cd "${folder}" && find . -printf '%P %y %m %u %g %s %l\\n' | LC_ALL=C sort &&
  find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum`;

export const BUILT_IN_KITS: readonly Kit[] = [
  {
    service: 'postgres',
    options: { extensions: ['pg_trgm', 'hstore'] },
    fill: `psql -Xqw -v ON_ERROR_STOP=1 -d "$POSTGRES_DATABASE" <<SQL
      CREATE SCHEMA inner_one;
      CREATE TYPE inner_one.mood AS ENUM ('sad', 'ok');
      CREATE TABLE post (id serial PRIMARY KEY, title text NOT NULL, body bytea, tags hstore, mood inner_one.mood DEFAULT 'ok');
      INSERT INTO post (title, body, tags) SELECT '$1 ü ' || n, decode(md5(n::text), 'hex'), hstore('n', n::text) FROM generate_series(1, 500) n;
      CREATE INDEX ON post USING gin (title gin_trgm_ops);
      CREATE FUNCTION twice(n int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 2 * n; END';
      CREATE TABLE computed (n int CHECK (twice(n) > 0), m int GENERATED ALWAYS AS (n * 2) STORED);
      INSERT INTO computed SELECT generate_series(1, 50);
      CREATE INDEX ON computed (abs(n));
      CREATE MATERIALIZED VIEW counted AS SELECT mood, count(*), '$1' AS whose FROM post GROUP BY mood;
      COMMENT ON TABLE post IS 'of $1';
      GRANT SELECT ON post TO PUBLIC;
      SELECT lo_from_bytea(4711, 'large $1');
      ALTER DATABASE "$POSTGRES_DATABASE" SET timezone TO 'Asia/Tokyo';
      ALTER DATABASE "$POSTGRES_DATABASE" SET search_path TO public, inner_one;
SQL`,
    change: `psql -Xqw -v ON_ERROR_STOP=1 -d "$POSTGRES_DATABASE" <<SQL
      UPDATE post SET title = 'changed' WHERE id < 100; DELETE FROM post WHERE id > 400; DROP TABLE computed;
      CREATE TABLE more (id int); SELECT lo_unlink(4711); COMMENT ON TABLE post IS NULL;
SQL`,
    digest: `psql -XAtqw -d "$POSTGRES_DATABASE" -c 'SHOW timezone' -c 'SHOW search_path' \
        -c 'SELECT datacl, datallowconn FROM pg_database WHERE datname = current_database()'
      pg_dump -w -d "$POSTGRES_DATABASE" | grep -vE '^(--|.restrict|.unrestrict)' | sha256sum`,
    there: `${asPostgres} -c "SELECT datname, datallowconn FROM pg_database" -c 'SELECT rolname FROM pg_roles' | sort`,
    traces: `${asPostgres} -c 'SELECT xmin, * FROM pg_database ORDER BY oid' -c 'SELECT xmin, * FROM pg_authid ORDER BY oid'`,
    wrong: {
      cut: 'cp -r "$DUMP" "$WRONG" && truncate -s -3000 "$WRONG/database.dump"',
      'cut in its first bytes': 'cp -r "$DUMP" "$WRONG" && truncate -s 20 "$WRONG/database.dump"',
      'of a newer version': 'cp -r "$DUMP" "$WRONG" && sed -i s/^version=.*/version=99/ "$WRONG/facts"',
      'of another service': 'mkdir "$WRONG" && echo REDIS >"$WRONG/database.dump" && echo version=15 >"$WRONG/facts"',
      nothing: ':',
    },
    attacks: [
      {
        what: 'its database',
        script: 'psql -XAtqw -d "$V_POSTGRES_DATABASE" -c "SELECT count(*) FROM post"',
        denied: /permission denied for database/,
      },
      {
        what: 'its role',
        script: 'psql -XAtqw -U "$V_POSTGRES_USER" -d "$V_POSTGRES_DATABASE" -c "SELECT count(*) FROM post"',
        denied: /Peer authentication failed/,
      },
      {
        what: 'its URL',
        script: 'psql -XAtqw "$V_DATABASE_URL" -c "SELECT count(*) FROM post"',
        denied: /Peer authentication failed/,
      },
      {
        what: 'its role by TCP',
        script: 'psql -XAtqw -h 127.0.0.1 -U "$V_POSTGRES_USER" -d "$V_POSTGRES_DATABASE" -c "SELECT 1"',
        denied: /no password supplied/,
        nobody: true,
      },
      {
        what: 'becoming its role',
        script: 'psql -XAtqw -d "$POSTGRES_DATABASE" -c "SET ROLE \\"$V_POSTGRES_USER\\""',
        denied: /permission denied to set role/,
      },
      {
        what: 'a database where all could meet',
        script: 'psql -XAtqw -d postgres -c "SELECT 1"',
        denied: /permission denied for database/,
        nobody: true,
      },
      {
        what: 'the template',
        script: 'psql -XAtqw -d template1 -c "SELECT 1"',
        denied: /permission denied for database/,
        nobody: true,
      },
      {
        what: 'the superuser',
        script: 'psql -XAtqw -U postgres -d postgres -c "SELECT 1"',
        denied: /Peer authentication failed/,
        nobody: true,
      },
      {
        what: 'a database of its own making',
        script: 'psql -XAtqw -d "$POSTGRES_DATABASE" -c "CREATE DATABASE mine"',
        denied: /permission denied to create database/,
        nobody: true,
      },
      {
        what: 'a role of its own making',
        script: 'psql -XAtqw -d "$POSTGRES_DATABASE" -c "CREATE ROLE mine"',
        denied: /permission denied to create role/,
        nobody: true,
      },
      {
        what: 'more rights',
        script: 'psql -XAtqw -d "$POSTGRES_DATABASE" -c "ALTER ROLE \\"$POSTGRES_USER\\" CREATEDB"',
        denied: /permission denied|must be superuser/,
        nobody: true,
      },
      {
        what: "the server's programs",
        script: `psql -XAtqw -d "$POSTGRES_DATABASE" -c "COPY (SELECT 1) TO PROGRAM 'id'"`,
        denied: /permission denied to COPY|must be superuser/,
        nobody: true,
      },
      {
        what: "the server's files",
        script: `psql -XAtqw -d "$POSTGRES_DATABASE" -c "SELECT pg_read_file('/etc/passwd')"`,
        denied: /permission denied/,
        nobody: true,
      },
      {
        what: 'an extension that could do all that',
        script: 'psql -XAtqw -d "$POSTGRES_DATABASE" -c "CREATE EXTENSION dblink"',
        denied: /permission denied to create extension/,
        nobody: true,
      },
      {
        what: "the server's folder",
        script: `ls /var/lib/postgresql/${POSTGRES}/main`,
        denied: /Permission denied/,
        nobody: true,
      },
    ],
  },
  {
    service: 'mariadb',
    fill: `mariadb -u "$MARIADB_USER" "$MARIADB_DATABASE" <<SQL
      CREATE TABLE post (id int PRIMARY KEY AUTO_INCREMENT, title varchar(100), body blob, KEY (title));
      INSERT INTO post (title, body) SELECT CONCAT('$1 ü \\\\n "', seq), UNHEX(MD5(seq)) FROM seq_1_to_500;
      CREATE TABLE note (id int PRIMARY KEY, post int, CONSTRAINT of_post FOREIGN KEY (post) REFERENCES post (id) ON DELETE CASCADE);
      INSERT INTO note SELECT seq, seq FROM seq_1_to_100;
      CREATE FUNCTION twice(n int) RETURNS int DETERMINISTIC RETURN 2 * n;
      CREATE PROCEDURE touch_it() UPDATE post SET title = title;
      CREATE VIEW short AS SELECT id, twice(id) AS more, '$1' AS whose FROM post WHERE id < 10;
      CREATE TRIGGER before_note BEFORE INSERT ON note FOR EACH ROW SET NEW.post = NEW.id;
      CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY STARTS '2026-01-01 00:00:00' DO DELETE FROM note WHERE id < 0;
      CREATE SEQUENCE numbers START WITH 7;
SQL`,
    change: `mariadb -u "$MARIADB_USER" "$MARIADB_DATABASE" <<SQL
      UPDATE post SET title = 'changed' WHERE id < 100; DELETE FROM post WHERE id > 400; DROP VIEW short; DROP TRIGGER before_note;
      CREATE TABLE more (id int); DROP FUNCTION twice; DROP EVENT nightly;
SQL`,
    digest: `mariadb -u "$MARIADB_USER" "$MARIADB_DATABASE" -e 'SELECT @@collation_database'
      mariadb-dump -u "$MARIADB_USER" --routines --events --triggers --hex-blob "$MARIADB_DATABASE" | grep -v '^--' | sha256sum`,
    there: `mariadb -BNe "SHOW DATABASES; SELECT User FROM mysql.user; SELECT REPLACE(Db, CHAR(92), '') FROM mysql.db"`,
    traces: `mariadb -BNe 'SELECT * FROM mysql.global_priv; SELECT * FROM mysql.db'`,
    wrong: {
      cut: 'cp -r "$DUMP" "$WRONG" && truncate -s -1000 "$WRONG/database.sql.gz"',
      'cut between two tables':
        'cp -r "$DUMP" "$WRONG" && gzip -dc "$DUMP/database.sql.gz" | sed -n 1,60p | gzip >"$WRONG/database.sql.gz"',
      'of a newer version': 'cp -r "$DUMP" "$WRONG" && sed -i s/^version=.*/version=9900/ "$WRONG/facts"',
      'with an error in it':
        'cp -r "$DUMP" "$WRONG" && gzip -dc "$DUMP/database.sql.gz" | sed "s/^INSERT INTO .note. VALUES/INSERT INTO nowhere VALUES/" | gzip >"$WRONG/database.sql.gz"',
      nothing: ':',
    },
    attacks: [
      {
        what: 'its database',
        script: 'mariadb -u "$MARIADB_USER" -e "SELECT COUNT(*) FROM \\`$V_MARIADB_DATABASE\\`.post"',
        denied: /command denied|Access denied/,
      },
      {
        what: 'its account',
        script: 'mariadb -u "$V_MARIADB_USER" -e "SELECT COUNT(*) FROM \\`$V_MARIADB_DATABASE\\`.post"',
        denied: /Access denied/,
      },
      {
        what: 'its account by TCP',
        script: 'mariadb -h 127.0.0.1 -u "$V_MARIADB_USER" -e "SELECT 1"',
        denied: /Access denied|not allowed/,
        nobody: true,
      },
      {
        what: 'its name',
        script:
          'mariadb -u "$MARIADB_USER" -BN -e "SHOW DATABASES" | grep -qx "$V_MARIADB_DATABASE" || { echo not found; exit 1; }',
        denied: /not found/,
      },
      { what: 'root', script: 'mariadb -u root -e "SELECT 1"', denied: /Access denied/, nobody: true },
      {
        what: 'accounts',
        script: 'mariadb -u "$MARIADB_USER" -e "SELECT * FROM mysql.global_priv"',
        denied: /denied/,
        nobody: true,
      },
      {
        what: 'an account of its own making',
        script: 'mariadb -u "$MARIADB_USER" -e "CREATE USER mine"',
        denied: /Access denied/,
        nobody: true,
      },
      {
        what: 'a database of its own making',
        script: 'mariadb -u "$MARIADB_USER" -e "CREATE DATABASE mine"',
        denied: /Access denied/,
        nobody: true,
      },
      {
        what: "the server's files",
        script: `mariadb -u "$MARIADB_USER" -BN -e "SELECT LOAD_FILE('/etc/passwd')" | grep root: || { echo denied; exit 1; }`,
        denied: /denied/,
        nobody: true,
      },
      {
        what: 'writing files',
        script: `mariadb -u "$MARIADB_USER" -e "SELECT 1 INTO OUTFILE '/tmp/mine'"`,
        denied: /Access denied/,
        nobody: true,
      },
      {
        what: "the server's folder",
        script: 'ls "/var/lib/mysql/$(sed s/-/@002d/g <<<"$V_MARIADB_DATABASE")"',
        denied: /Permission denied/,
        nobody: true,
      },
    ],
  },
  {
    service: 'redis',
    fill: `for i in $(seq 40); do echo "SET key:$i '$1 $i'"; done | ${redis('')} >/dev/null
      printf 'a\\0b\\r\\n$1' | ${redis('-x SET binary')} >/dev/null
      printf '%s\\n' "RPUSH list a b $1" 'HSET hash a 1 b 2' 'SADD set x' 'ZADD sorted 1.5 a' 'XADD stream 1-1 f v' 'SET later x EX 1000000' \
        'SELECT 3' 'SET other "in three"' | ${redis('')} >/dev/null`,
    change: `printf '%s\\n' 'DEL list' 'SET key:1 changed' 'HSET hash a 9' 'SET more 1' 'SELECT 3' 'FLUSHDB' | ${redis('')} >/dev/null`,
    // It says how long it took, when that is long.
    digest: `for n in 0 3; do ${redis('-n $n --scan')} | LC_ALL=C sort | sed 's/.*/DUMP "&"/' | ${redis('-n $n --no-raw')}; done | grep -v '^([0-9.]*s)$' | sha256sum
      ${redis('EXPIRETIME later')} | head -c 5`,
    there: `ls -d /web/*/redis*`,
    traces: 'pgrep -l redis-server',
    wrong: {
      cut: 'head -c -40 "$DUMP" >"$WRONG"',
      'of a newer version': '{ printf REDIS0099; tail -c +10 "$DUMP"; } >"$WRONG"',
      damaged: '{ head -c 500 "$DUMP"; head -c 300 /dev/zero; tail -c +801 "$DUMP"; } >"$WRONG"',
      'of another service': 'echo text >"$WRONG"',
      nothing: ':',
    },
    attacks: [
      { what: 'its socket', script: redis('GET key:1', '$V_REDIS_SOCKET'), denied: /Permission denied/ },
      { what: "its socket's folder", script: 'ls "$(dirname "$V_REDIS_SOCKET")"', denied: /Permission denied/ },
      { what: 'its files', script: 'ls "$V_FOLDER/redis"', denied: /Permission denied/ },
      { what: 'a server for all', script: 'redis-cli -p 6379 ping', denied: /refused/, nobody: true },
      { what: 'a limit lifted', script: redis('CONFIG SET maxmemory 0'), denied: /NOPERM/, nobody: true },
      { what: 'being made a copy', script: redis('REPLICAOF 127.0.0.1 6379'), denied: /NOPERM/, nobody: true },
      { what: 'rights changed', script: redis('ACL SETUSER default +@all'), denied: /NOPERM/, nobody: true },
    ],
  },
  {
    service: 'rabbitmq',
    fill: `${amqp('declare jobs')}; ${amqp('declare "mails of $1"')}; ${amqp('publish jobs "first of $1"')}`,
    change: `${amqp('declare more')}; ${amqp('delete jobs')}`,
    digest: `for queue in jobs "mails of $1" more; do ${amqp('passive "$queue"')} 2>&1 | grep -o '^[a-z]* [0-9]*$\\|NOT_FOUND' || true; done`,
    there: erlang(
      'lists:sort([binary_to_list(V) || V <- rabbit_vhost:list_names()]) ++ lists:sort([binary_to_list(proplists:get_value(user, U)) || U <- rabbit_auth_backend_internal:list_users()]).',
    ),
    traces: 'rabbitmqctl -q export_definitions -; cat /etc/rabbitmq/conf.d/*',
    wrong: {
      cut: 'head -c 60 "$DUMP" >"$WRONG"',
      'of another service': 'echo \'{"text": 1}\' >"$WRONG"',
      'with a queue that cannot be': `sed 's/"durable": true/"durable": "perhaps"/' "$DUMP" >"$WRONG"`,
      nothing: ':',
    },
    attacks: [
      {
        what: 'its vhost',
        script: `vhost=\${V_RABBITMQ_URL##*/}; ${amqp('get jobs', '${RABBITMQ_URL%/*}/$vhost')}`,
        denied: /NOT_ALLOWED/,
      },
      {
        what: 'its account',
        script: `vhost=\${V_RABBITMQ_URL##*/}; ${amqp('get jobs', 'amqp://$vhost:guest@127.0.0.1:5672/$vhost')}`,
        denied: /ACCESS_REFUSED/,
        nobody: true,
      },
      {
        what: 'its password',
        script: 'cat "$V_FOLDER/.kraftwerk/services/rabbitmq/variables"',
        denied: /Permission denied/,
        nobody: true,
      },
      {
        what: 'the guest',
        script: amqp('get jobs', 'amqp://guest:guest@127.0.0.1:5672/'),
        denied: /ACCESS_REFUSED/,
        nobody: true,
      },
      {
        what: 'the vhost for all',
        script: amqp('declare jobs', '${RABBITMQ_URL%/*}//'),
        denied: /NOT_ALLOWED/,
        nobody: true,
      },
      { what: 'the cookie', script: 'cat /var/lib/rabbitmq/.erlang.cookie', denied: /Permission denied/, nobody: true },
    ],
  },
  {
    service: 'files',
    fill: `cd "$UPLOADS_PATH"; umask 027; mkdir -p 'a b/c"d' "line
break" empty; echo "$1" >'a b/c"d/ü.txt'; : >none; head -c 300000 /dev/urandom >big; ln -s big link; ln -s /nowhere broken; ln big hard
      for i in $(seq 20); do echo "$i $1" >"a b/$i"; done; chmod 600 none; echo x >"line
break/x"; touch -d '2020-01-01 10:00' none`,
    change: `cd "$UPLOADS_PATH"; rm -r 'a b'; echo new >new; rm big; ln -sfn none link; mv empty full`,
    digest: tree('$UPLOADS_PATH'),
    there: `ls -ld --time-style=+ /web/*/uploads* | sed 's/ [0-9]* *[0-9]* / /'`,
    wrong: {
      'without its tree': 'mkdir "$WRONG" && : >"$WRONG/copied"',
      // It comes half way.
      'too deep': `cp -r "$DUMP" "$WRONG" && mkdir -p "$WRONG/tree/$(printf 'z/%.0s' $(seq 110))"`,
      nothing: ':',
    },
    attacks: [
      { what: 'a file', script: 'cat "$V_UPLOADS_PATH/big"', denied: /Permission denied/ },
      { what: 'the folder', script: 'ls "$V_UPLOADS_PATH"', denied: /Permission denied/ },
      { what: 'the dumps', script: 'ls "$V_FOLDER/dump"', denied: /Permission denied/, nobody: true },
    ],
  },
  {
    service: 'sqlite',
    fill: `cd "$DATA_PATH"; mkdir inner; echo "$1" >plain.txt
      python3 - <<PY
import sqlite3
for name, mode in (("db.sqlite3", "wal"), ("inner/more.db", "delete")):
    db = sqlite3.connect(name)
    db.execute(f"PRAGMA journal_mode={mode}")
    db.execute("CREATE TABLE post (id INTEGER PRIMARY KEY, title TEXT, body BLOB)")
    db.executemany("INSERT INTO post (title, body) VALUES (?, ?)", ((f"$1 {n}", bytes([n % 256] * 100)) for n in range(500)))
    db.commit()
PY`,
    change: `cd "$DATA_PATH"; rm -r inner; echo other >plain.txt; python3 -c 'import sqlite3; db = sqlite3.connect("db.sqlite3"); db.execute("DELETE FROM post WHERE id > 100"); db.commit()'`,
    digest: `cd "$DATA_PATH"; find . ! -name '*-wal' ! -name '*-shm' -printf '%P %y %m %u %g\\n' | LC_ALL=C sort; cat plain.txt
      python3 - db.sqlite3 inner/more.db <<PY
import hashlib, os, sqlite3, sys
for name in sys.argv[1:]:
    if os.path.exists(name):
        print(name, hashlib.sha256("\\n".join(sqlite3.connect(name).iterdump()).encode()).hexdigest())
PY`,
    there: `ls -ld --time-style=+ /web/*/data* | sed 's/ [0-9]* *[0-9]* / /'`,
    wrong: {
      cut: 'cp -r "$DUMP" "$WRONG" && truncate -s 20000 "$WRONG/tree/db.sqlite3"',
      damaged:
        'cp -r "$DUMP" "$WRONG" && head -c 9000 /dev/zero | dd of="$WRONG/tree/inner/more.db" bs=1 seek=4096 conv=notrunc status=none',
      nothing: ':',
    },
    attacks: [
      { what: 'a database', script: 'cat "$V_SQLITE_DATABASE"', denied: /Permission denied/ },
      { what: 'the folder', script: 'ls "$V_DATA_PATH"', denied: /Permission denied/ },
    ],
  },
];

/** The example of docs/services.md. */
export const SPOOL: Kit = {
  service: 'spool',
  options: { days: 7 },
  fill: `cd "$SPOOL_PATH"; mkdir new; for i in $(seq 20); do echo "$i for $1" >"new/$i.eml"; done`,
  change: 'cd "$SPOOL_PATH"; rm new/1*; echo more >new/more.eml',
  digest: tree('$SPOOL_PATH'),
  there: 'ls -d /web/*/spool* /etc/cron.d/kraftwerk-*',
  wrong: { nothing: ':', 'without its tree': 'mkdir "$WRONG"' },
  attacks: [{ what: 'the folder', script: 'ls "$V_SPOOL_PATH"', denied: /Permission denied/ }],
};

/** It has no data to lose. */
export const MEMCACHED: Pick<Kit, 'service' | 'options' | 'there' | 'traces' | 'attacks'> = {
  service: 'memcached',
  there: 'pgrep -l memcached',
  attacks: [
    { what: 'its socket', script: memcached('$V_MEMCACHED_SOCKET'), denied: /Permission denied/ },
    { what: "its socket's folder", script: 'ls "$(dirname "$V_MEMCACHED_SOCKET")"', denied: /Permission denied/ },
    {
      what: 'a server for all',
      script: 'exec 3<>/dev/tcp/127.0.0.1/11211',
      denied: /refused/,
      nobody: true,
    },
  ],
};
