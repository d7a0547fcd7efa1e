# Begins the scripts of services: `include('services/functions.sh', it)`. docs/services.md says what a script may rely on.
set -euo pipefail
umask 077
# Not a folder that a site's user, or a server's, might not enter.
cd /
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8

instance=<%= it.instance %>

site=<%= it.site %>

# Empty on a rootless node, where all belongs to whoever runs the script.
user=<%= it.user ?? '' %>


# Exit codes beside 1: the dump cannot be loaded, whoever tries; the server does not answer, another time it may.
readonly bad_dump=65 no_server=69
code=1

# MESSAGE [HINT...]: ends the script with $code.
fail() {
  local hint
  printf 'error: %s\n' "$1" >&2
  shift
  for hint in "$@"; do printf 'hint: %s\n' "$hint" >&2; done
  exit "$code"
}
fail_dump() { code=$bad_dump && fail "$@"; }
fail_server() { code=$no_server && fail "$@"; }

# UNIT...: whether a server that does not answer yet is about to.
is_starting() {
  [[ $(systemctl is-system-running 2>/dev/null) =~ ^(initializing|starting)$ ]] ||
    [[ $(systemctl show --property=ActiveState "$@" 2>/dev/null) =~ =(activating|deactivating|reloading) ]]
}

# Runs a program as the site's user, which may do no more than a process of the site. As words for what runs beside.
as_site=(env -i PATH="$PATH" LANG="$LANG" HOME="$site")
[[ -z $user ]] || as_site=(setpriv --reuid "$user" --regid "$user" --init-groups --no-new-privs "${as_site[@]}")
as_site() { "${as_site[@]}" "$@" 9>&-; }

# NAME: waits for other scripts of this node that hold the lock of that name, and holds it until this one ends.
one_at_a_time() {
  exec 9><%= it.root %>"/run/kraftwerk/.service.$1.lock"
  flock -w 120 9 || fail "another site's $1 has been in work for two minutes"
}

# FILE MODE < text: a file with just this text; sets `changed` when it had another one.
changed=
put() {
  local text there='' new
  IFS= read -r -d '' text || true
  if [[ -f $1 && ! -L $1 && $(stat -c %a "$1") == "${2#0}" ]]; then
    # There is no NUL in it, so this fails at its end.
    if ! IFS= read -r -d '' there <"$1" && [[ $there == "$text" ]]; then return; fi
  fi
  changed=yes
  new=$(mktemp "$1.XXXXXXXX")
  printf %s "$text" >"$new"
  # As mktemp has made it.
  [[ ${2#0} == 600 ]] || chmod "$2" "$new"
  sync "$new"
  mv -T "$new" "$1"
  sync "${1%/*}"
}

# FOLDER BYTES: fails where a disk has less room than that.
need_room() {
  local free
  free=$(df --output=avail -B1 "$1" | tail -n 1 | tr -d " ")
  if ((free < $2)); then
    fail "no room: $(size "$2") are needed on the disk of $1, $(size "$free") are free" 'make room on the node, then try again'
  fi
}
size() { numfmt --to=iec --suffix=B "$1"; }

# NAME FILE: a number of a file of `NAME=12` lines, empty where it has none. What is loaded may come from anywhere.
fact() { sed -n "s/^$1=\([0-9]\{1,18\}\)\$/\1/p" "$2" | head -n 1; }
