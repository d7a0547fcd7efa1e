# A Redis process for each site, as the site's user: docs/services.md says why not one for all.
<%~ include('services/functions.sh', it) %>
<%~ include('services/folders.sh', it) %>
<%~ include('services/units.sh', it) %>
if folder_is_missing "$site/redis"; then install -d -m 0700 -o "$user" -g "$user" "$site/redis"; fi
put "$STATE_DIR/environment" 0600 <<END
MEMORY=<%= it.options.memory %>mb
EVICTION=<%= it.options.eviction %>

END
# The site may not lift the limits, nor make it a copy of another server: it would be empty then.
own_unit redis <<'END'
[Unit]
Description=kraftwerk: Redis of %i

[Service]
Type=notify
User=web-%i
Group=web-%i
UMask=0077
RuntimeDirectory=kraftwerk-redis/%i
RuntimeDirectoryMode=0700
EnvironmentFile=/web/%i/.kraftwerk/services/redis/environment
ExecStart=/usr/bin/redis-server --supervised systemd --daemonize no --port 0 \
  --unixsocket /run/kraftwerk-redis/%i/redis.sock --unixsocketperm 700 --dir /web/%i/redis \
  --appendonly yes --appendfsync everysec --save "" --repl-diskless-sync yes --repl-diskless-sync-delay 0 \
  --maxmemory ${MEMORY} --maxmemory-policy ${EVICTION} \
  --user default on nopass ~* &* +@all -acl -debug -failover -module -replicaof -slaveof -shutdown -config|set
Restart=always
RestartSec=1
TimeoutStartSec=600
LimitNOFILE=10240
CapabilityBoundingSet=
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
PrivateDevices=yes
PrivateNetwork=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectSystem=strict
ReadWritePaths=/web/%i/redis
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
END
start_own
