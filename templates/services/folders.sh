# For services whose data is a folder below the site's: include it after functions.sh.
# Beside the folder, in $site, which the site's user cannot change: FOLDER.part is being made, .new is loaded, .old was
# there before the swap, .gone is being removed. Each step can be repeated, also where a run of it was cut off.

# take FROM TO link|copy [SKIP]: what a site may be changing meanwhile, to a dump; SKIP lists paths, each ended by NUL.
# put FROM TO link|copy GROUP: what `take` has made, to a new folder of the site's.
copy_tree() {
  local uid
  uid=$(id -u ${user:+"$user"})
  /usr/bin/python3 -IS - "$uid" "$@" <<'KRAFTWERK_PYTHON'
<%~ include('services/copy-tree.py') %>
KRAFTWERK_PYTHON
}

# FOLDER [SUFFIX]
discard() {
  local path=$1${2:-}
  [[ -e $path || -L $path ]] || return 0
  [[ $path == "$site"/?* ]] || fail "$path is not in $site"
  # What is half removed must not be taken for a whole one.
  rm -rf --one-file-system "$1.gone"
  mv -T "$path" "$1.gone"
  rm -rf --one-file-system "$1.gone"
}

# FOLDER: whether setup.sh is to make it. One that a load has put aside comes back: an empty one would be in its way.
folder_is_missing() {
  [[ ! -d $1 ]] || return 1
  [[ ! -e $1.old ]] || fail "$1 is put aside: a load was cut off in its swap" 'load.sh back, or load.sh swap'
}

# FOLDER: before FOLDER.part is made.
folder_begin() {
  [[ ! -e $1.old ]] || fail "$1.old is still there: the load before this one was never ended" 'load.sh back, or load.sh done'
  discard "$1" .new
  discard "$1" .part
}

# FOLDER: when FOLDER.part is whole.
folder_loaded() {
  sync -f "$1.part"
  mv -T "$1.part" "$1.new"
  sync "$site"
}

# Fails where there is nothing to swap in.
folder_ready() {
  [[ -e $1.new || -e $1.old ]] || fail "$1: nothing is loaded" 'load.sh new'
  [[ ! -e $1.new || ! -e $1 || ! -e $1.old ]] || fail "$1.old is in the way" 'load.sh back, or load.sh done'
}

folder_swap() {
  folder_ready "$1"
  [[ -e $1.new ]] || return 0
  [[ ! -e $1 ]] || mv -T "$1" "$1.old"
  mv -T "$1.new" "$1"
  sync "$site"
}

folder_back() {
  if [[ -e $1.old ]]; then
    # Where `new` is there, the swap was cut off between its two steps.
    if [[ -e $1 && ! -e $1.new ]]; then mv -T "$1" "$1.new"; fi
    [[ ! -e $1 ]] || fail "$1, $1.new and $1.old are all there" 'move away what is not wanted'
    mv -T "$1.old" "$1"
    sync "$site"
  fi
  discard "$1" .new
  discard "$1" .part
  rm -rf --one-file-system "$1.gone"
}

folder_done() {
  [[ ! -e $1.new ]] || fail "$1.new was never swapped in" 'load.sh swap, or load.sh back'
  discard "$1" .old
  rm -rf --one-file-system "$1.gone"
}

folder_destroy() {
  local suffix
  for suffix in '' .new .old .part; do discard "$1" "$suffix"; done
  rm -rf --one-file-system "$1.gone"
}

# STEP FOLDER: what load.sh does in all steps but `new`.
folder_step() {
  case $1 in
    swap | back | done) "folder_$1" "$2" ;;
    *) fail "a step is new, swap, back or done, not '$1'" ;;
  esac
}
