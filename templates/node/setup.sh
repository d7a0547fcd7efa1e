# Makes a server a node. Changes only what is not as it should be, so it can run again, and goes on where it was cut off.

step Packages
if command -v cloud-init >/dev/null && [[ $(cloud-init status 2>/dev/null) == *running* ]]; then
  note 'cloud-init still works on this server: waiting for it'
  timeout 600 cloud-init status --wait >/dev/null || true
fi
if [[ -n $(dpkg --audit) ]]; then
  dpkg --configure -a --force-confdef --force-confold
  apt_get install --fix-broken
  changed 'what an interrupted installation had left'
fi
required=(<% for (const name of it.packages.required) { %> <%= name %><% } %>)
optional=(<% for (const name of it.packages.optional) { %> <%= name %><% } %>)

# Prints those of its arguments that are not installed.
missing() {
  comm -23 <(printf '%s\n' "$@" | sort -u) \
    <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p' | sort -u)
}
# Prints those of its arguments that apt can install.
available() {
  apt-cache policy "$@" | awk '/^[^ ].*:$/ { name = substr($0, 1, length($0) - 1) } /^ *Candidate:/ && $2 != "(none)" { print name }'
}
# Prints the packages that have lost files or have broken programs.
damaged() {
  dpkg --verify "$@" 2>/dev/null | awk '
    $1 == "missing" && !/ \/usr\/share\/(doc|man|locale|lintian|info)\// { print $NF }
    $1 != "missing" && substr($1, 3, 1) == "5" && $NF ~ /^(\/usr)?\/s?bin\// { print $NF }' |
    xargs -r dpkg-query -S 2>/dev/null | sed 's/:.*//' | sort -u
}

python_needed=<%= it.pythonNeeded %> node_needed=<%= it.nodeNeeded %>
# Sets node, in the order in which agent-login looks for it, and have, its version.
find_node() {
  for node in /usr/bin/node /usr/bin/nodejs /usr/local/bin/node; do [[ ! -x $node ]] || break; done
  have=$("$node" --version 2>/dev/null || true)
  [[ $have =~ ^v([0-9]+)\. ]] && ((BASH_REMATCH[1] >= node_needed))
}
# One that is there and new enough will do, wherever it is from: the distribution's may be older, and would be found first.
if find_node && [[ $node == /usr/local/* ]]; then
  kept=()
  for package in "${required[@]}"; do [[ $package == nodejs ]] || kept+=("$package"); done
  required=("${kept[@]}")
fi

mapfile -t absent < <(missing "${required[@]}" "${optional[@]}")
if ((${#absent[@]} > 0)); then
  mapfile -t wanted < <(available "${absent[@]}")
  mapfile -t unknown < <(comm -23 <(missing "${required[@]}") <(printf '%s\n' "${wanted[@]}" | sort))
  # Lists that are a day old name packages that are gone.
  if ((${#unknown[@]} > 0)) || [[ -z $(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' -mtime -1 -print -quit) ]]; then
    if ((${#wanted[@]} > 0 || ${#unknown[@]} > 0)); then
      apt_get update || note 'apt-get update failed: going on with the lists that are there'
      mapfile -t wanted < <(available "${absent[@]}")
      mapfile -t unknown < <(comm -23 <(missing "${required[@]}") <(printf '%s\n' "${wanted[@]}" | sort))
    fi
  fi
  if ((${#unknown[@]} > 0)); then
    fail "apt knows no package ${unknown[*]}" \
      'does the server reach its package sources? On it: apt-get update' \
      'on Ubuntu they are in universe: add-apt-repository universe'
  fi
  if ((${#wanted[@]} > 0)); then
    printf 'installing %s\n' "${wanted[*]}"
    apt_get install "${wanted[@]}" || fail 'apt-get install failed' \
      'does the server reach its package sources? On it: apt-get update' 'then run this again: it goes on where it stopped'
    changed "installed ${#wanted[@]} packages, and what they need"
  fi
fi
mapfile -t broken < <(damaged "${required[@]}" nginx-common)
if ((${#broken[@]} > 0)); then
  apt_get install --reinstall -o Dpkg::Options::=--force-confmiss "${broken[@]}"
  changed "mended ${broken[*]}"
fi

step Versions
if ! /usr/bin/python3 -I -c '
import sys, venv
sys.exit(sys.version_info < tuple(map(int, sys.argv[1].split("."))))' "$python_needed"; then
  fail "/usr/bin/python3 is $(/usr/bin/python3 -I -V 2>&1 | head -n 1), kraftwerk needs $python_needed or newer" \
    'mend it: apt-get install --reinstall python3-minimal python3-venv'
fi
if ! find_node; then
  fail "$node is Node.js ${have:-(broken)}, kraftwerk needs $node_needed or newer" \
    'a newer system (Debian 12, Ubuntu 24.04), or a newer Node.js from https://deb.nodesource.com'
fi

step System
getent group web >/dev/null || {
  groupadd --system web
  changed 'group web'
}
folder /web 0755
if ! grep -qs '^LANG=.' /etc/default/locale; then
  echo 'LANG=C.UTF-8' >>/etc/default/locale
  changed '/etc/default/locale'
fi
<% for (const file of it.files) { %>
put <%= file.path %> <%= file.mode %> <<'KRAFTWERK_FILE'
<%~ file.base64 %>

KRAFTWERK_FILE
<% } %>

step Services
unit runit.service
nginx_conf=/etc/nginx/conf.d/kraftwerk.conf
nginx_old=$(mktemp -d)
[[ ! -e $nginx_conf ]] || cp -p "$nginx_conf" "$nginx_old/conf"
nginx_changes=0
if [[ -L /etc/nginx/sites-enabled/default ]]; then
  mv /etc/nginx/sites-enabled/default "$nginx_old/default"
  nginx_changes=1
  changed '/etc/nginx/sites-enabled/default removed'
fi
before=$(stat -c %i "$nginx_conf" 2>/dev/null || true)
put "$nginx_conf" 0644 <<'KRAFTWERK_FILE'
<%~ it.nginxConf %>

KRAFTWERK_FILE
[[ $(stat -c %i "$nginx_conf") == "$before" ]] || nginx_changes=1
if ! nginx -q -t; then
  ((nginx_changes)) || fail "nginx's configuration is broken" 'what is above says where; mend it, then run this again'
  if [[ -e $nginx_old/conf ]]; then mv "$nginx_old/conf" "$nginx_conf"; else rm -f "$nginx_conf"; fi
  [[ ! -L $nginx_old/default ]] || mv "$nginx_old/default" /etc/nginx/sites-enabled/default
  fail "nginx does not take kraftwerk's configuration; its own is as it was" \
    'what is above says why: a site with default_server on port 80, a setting that stands twice?'
fi
rm -rf "$nginx_old"
unit nginx.service
((nginx_changes == 0)) || systemctl reload nginx.service
<% if (it.receiverKey !== null) { %>

step Enrol
home=$(getent passwd root | cut -d: -f6)
keys=$home/.ssh/authorized_keys
folder "$home/.ssh" 0700
[[ ! -L $keys ]] || keys=$(readlink -f "$keys")
[[ -e $keys ]] || install -m 0600 /dev/null "$keys"
keys_new=$(mktemp "$keys.XXXXXXXX")
# Only the lines of this key, and of a receiver that is to be replaced, are touched.
LINE=<%= it.receiverKey.line %> KEY=<%= it.receiverKey.key %> REPLACE=<%= it.receiverKey.replace ? 'yes' : 'no' %> awk '
  BEGIN {
    line = ENVIRON["LINE"]; key = ENVIRON["KEY"]; replace = ENVIRON["REPLACE"] == "yes"
    start = substr(line, 1, index(line, key) + length(key) - 1)
  }
  !/^#/ && (index($0 " ", key " ") || (replace && index($0, "/usr/local/lib/kraftwerk/agent-login"))) {
    # Its comment may be another one.
    if (!done) print index($0 " ", start " ") == 1 ? $0 : line
    done = 1
    next
  }
  { print }
  END { if (!done) print line }' "$keys" >"$keys_new"
if cmp -s "$keys_new" "$keys"; then
  rm "$keys_new"
else
  chown --reference="$keys" "$keys_new"
  chmod 600 "$keys_new"
  sync "$keys_new"
  mv -T "$keys_new" "$keys"
  changed "$keys"
fi
<% } %>
