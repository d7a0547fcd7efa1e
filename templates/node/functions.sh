# What comes before each script of a node: the words that kraftwerk understands, and what the scripts share.
# A line that begins with "@" is for kraftwerk; everything else is shown as it is.
set -euo pipefail
umask 022
cd /
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
export LANG=C.UTF-8 LC_ALL=C.UTF-8
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 APT_LISTCHANGES_FRONTEND=none

step() { printf '@step %s\n' "$*"; }       # what is done now
changed() { printf '@changed %s\n' "$*"; } # what was not as it should be, and is now
note() { printf '@note %s\n' "$*"; }
fail() { # MESSAGE HINT...
  printf '@error %s\n' "$1"
  shift
  (($# == 0)) || printf '@hint %s\n' "$@"
  exit 1
}

# Waits for other runs of apt; takes the maintainer's answers, keeps the admin's files.
apt_get() {
  local code=0 try
  for try in {1..120}; do
    code=0
    apt-get -qq -y -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 -o APT::Install-Recommends=false \
      -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@" 2>"$apt_errors" || code=$?
    # The lock of the lists is one that apt itself does not wait for.
    if ((code == 0)) || ! grep -q 'lists/lock' "$apt_errors"; then break; fi
    if ((try == 1)); then note 'another apt reads its lists: waiting for it'; fi
    sleep 5
  done
  cat "$apt_errors"
  return "$code"
}
apt_errors=$(mktemp)
trap 'rm -f "$apt_errors"' EXIT

# put PATH MODE [OWNER]: the content comes in base64 on stdin; replaced by rename, if it differs at all.
put() {
  local path=$1 mode=$2 owner=${3:-root:root} new
  new=$(mktemp "$path.XXXXXXXX" 2>/dev/null) || {
    mkdir -p "$(dirname "$path")"
    new=$(mktemp "$path.XXXXXXXX")
  }
  base64 -d >"$new"
  if [[ ! -L $path && -f $path ]] && cmp -s "$new" "$path"; then
    rm "$new"
    if [[ $(stat -c '%a %U:%G' "$path") != "${mode#0} $owner" ]]; then
      chown "$owner" "$path"
      chmod "$mode" "$path"
      changed "$path (mode and owner)"
    fi
    return
  fi
  chown "$owner" "$new"
  chmod "$mode" "$new"
  sync "$new"
  mv -T "$new" "$path"
  changed "$path"
}

# folder PATH MODE [OWNER]
folder() {
  local path=$1 mode=$2 owner=${3:-root:root}
  if [[ -d $path && ! -L $path && $(stat -c '%a %U:%G' "$path") == "${mode#0} $owner" ]]; then return; fi
  if [[ -e $path || -L $path ]] && [[ ! -d $path || -L $path ]]; then fail "$path is there and is no folder" "move it away, then run this again"; fi
  install -d -m "$mode" -o "${owner%:*}" -g "${owner#*:}" "$path"
  changed "$path"
}

# link TARGET PATH
link() {
  if [[ -L $2 && $(readlink "$2") == "$1" ]]; then return; fi
  if [[ -e $2 && ! -L $2 ]]; then fail "$2 is there and is no link" "move it away, then run this again"; fi
  ln -sfn "$1" "$2"
  changed "$2"
}

# unit NAME: on, now and after a reboot
unit() {
  if ! systemctl is-enabled --quiet "$1"; then
    systemctl unmask --quiet "$1"
    systemctl enable --quiet "$1"
    changed "$1 starts with the machine"
  fi
  if ! systemctl is-active --quiet "$1"; then
    systemctl reset-failed "$1" 2>/dev/null || true
    systemctl start "$1" || {
      journalctl -u "$1" -n 15 --no-pager -o cat || true
      fail "$1 does not start" "systemctl status $1"
    }
    changed "$1 started"
  fi
}
