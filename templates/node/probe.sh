# Looks at a server and changes nothing. Read by sh, whatever machine it is; prints one fact a line, NAME=VALUE.
{
  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  LC_ALL=C
  export PATH LC_ALL
  say() { printf '%s=%s\n' "$1" "$2"; }

  echo 'kraftwerk-probe=1'
  say uid "$(id -u)"
  say user "$(id -un)"
  say sudo "$([ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null && echo yes)"
  say kernel "$(uname -s)"
  say machine "$(uname -m)"
  say hostname "$(hostname 2>/dev/null)"
  say fqdn "$(hostname -f 2>/dev/null)"
  say clock "$(date +%s)"
  if [ -r /etc/os-release ]; then
    (
      # shellcheck source=/dev/null
      . /etc/os-release
      say os_id "${ID:-}"
      say os_version "${VERSION_ID:-}"
      say os_name "${PRETTY_NAME:-}"
    )
  fi
  say systemd "$([ -d /run/systemd/system ] && echo yes)"
  say apt "$(command -v apt-get)"
  say cpus "$(grep -c '^processor' /proc/cpuinfo 2>/dev/null)"
  say memory_kb "$(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo 2>/dev/null)"
  say free_kb "$(df -Pk / 2>/dev/null | awk 'NR == 2 { print $4 }')"
  say python "$(/usr/bin/python3 -I -V 2>/dev/null)"
  # In the order in which agent-login looks for it.
  for node in /usr/bin/node /usr/bin/nodejs /usr/local/bin/node ''; do
    [ ! -x "$node" ] || break
  done
  say node_path "$node"
  say node "$([ -z "$node" ] || "$node" --version 2>/dev/null)"
  say node_candidate "$([ -n "$node" ] || apt-cache policy nodejs 2>/dev/null | sed -n 's/^ *Candidate: //p')"
  # Ports that are listened on, in hexadecimal.
  say ports "$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" { sub(/.*:/, "", $2); printf "%s ", $2 }')"
  socket=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" && $2 ~ /:0050$/ { print $10; exit }')
  holder=$([ -z "$socket" ] || find /proc/[0-9]*/fd -lname "socket:?$socket?" 2>/dev/null | head -n 1)
  say port_80_by "$([ -z "$holder" ] || cat "${holder%/fd/*}/comm")"
  say ipv6 "$([ -s /proc/net/if_inet6 ] && echo yes)"
  say firewall "$(sed -n 's/^ENABLED=\(.*\)/\1/p' /etc/ufw/ufw.conf 2>/dev/null)"
  missing=''
  for package in <% for (const name of it.required) { %> <%= name %><% } %>; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
  done
  say missing "${missing# }"
  say agent_sha256 "$(sha256sum /usr/local/lib/kraftwerk/agent.mjs 2>/dev/null | cut -d ' ' -f 1)"
  say agent_version "$(head -n 1 /usr/local/lib/kraftwerk/agent.version 2>/dev/null)"
  if [ -r ~/.ssh/authorized_keys ]; then
    grep -F 'command="/usr/local/lib/kraftwerk/agent-login"' ~/.ssh/authorized_keys | while IFS= read -r line; do
      say receiver "$line"
    done
  fi
  echo 'end=1'
} </dev/null
