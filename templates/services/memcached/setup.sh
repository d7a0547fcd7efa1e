# A memcached process for each site, as the site's user: one for all could be read and emptied by each of them.
<%~ include('services/functions.sh', it) %>
<%~ include('services/units.sh', it) %>
put "$STATE_DIR/environment" 0600 <<END
MEMORY=<%= it.options.memory %>

END
own_unit memcached <<'END'
[Unit]
Description=kraftwerk: memcached of %i

[Service]
User=web-%i
Group=web-%i
UMask=0077
RuntimeDirectory=kraftwerk-memcached/%i
RuntimeDirectoryMode=0700
EnvironmentFile=/web/%i/.kraftwerk/services/memcached/environment
ExecStart=/usr/bin/memcached -s /run/kraftwerk-memcached/%i/memcached.sock -a 0700 -m ${MEMORY} -c 1024
# Started is when it can be connected to.
ExecStartPost=/bin/sh -c 'for i in 0 1 2 3 4 5 6 7 8 9; do [ ! -S "$$0" ] || exit 0; sleep 0.1; done; exit 1' /run/kraftwerk-memcached/%i/memcached.sock
Restart=always
RestartSec=1
LimitNOFILE=4096
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
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
END
start_own
