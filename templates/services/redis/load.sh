<%~ include('services/functions.sh', it) %>
<%~ include('services/folders.sh', it) %>
<%~ include('services/units.sh', it) %>
data=$site/redis
unit=kraftwerk-redis@$instance.service

# Lets another server read the dump, which tells whether it can be read, and write it as the site's server wants it.
load_new() {
  local part=$data.part bytes end
  [[ -f $DUMP_SOURCE && $(head -c 5 "$DUMP_SOURCE") == REDIS ]] || fail_dump "$DUMP_SOURCE is no dump of Redis"
  folder_begin "$data"
  bytes=$(stat -c %s "$DUMP_SOURCE")
  need_room "$site" "$((3 * bytes))"
  mkdir -m 0700 "$part"
  cp --reflink=auto "$DUMP_SOURCE" "$part/dump.rdb"
  chown "$user:$user" "$part/dump.rdb"
  # From now on the site's user could put links there: root works by no path in it any more.
  chown "$user:$user" "$part"
  said=$STATE_DIR/said
  server=
  trap '[[ -z $server ]] || kill -s KILL "$server" 2>/dev/null || true' EXIT
  "${as_site[@]}" redis-server --port 0 --unixsocket "$part/load.sock" --unixsocketperm 700 --dir "$part" \
    --dbfilename dump.rdb --appendonly no --save '' --loglevel warning >"$said" 2>&1 &
  server=$!
  until [[ $(redis_cli ping) == PONG ]]; do still_there; done
  redis_cli config set appendonly yes >/dev/null
  until persisted; do still_there; done
  redis_cli shutdown nosave >/dev/null || true
  wait "$server" || true
  server=
  as_site rm -f "$part/dump.rdb" "$part/load.sock"
  folder_loaded "$data"
}

redis_cli() { as_site redis-cli -s "$data.part/load.sock" "$@" 2>&1; }

still_there() {
  if ! kill -s 0 "$server" 2>/dev/null; then
    server=
    grep -vE 'WARNING|overcommit' "$said" | tail -n 5 >&2
    fail_dump 'Redis cannot read the dump: it is cut, damaged, or of a newer version'
  fi
  sleep 0.05
}

persisted() {
  local info
  info=$(redis_cli info persistence)
  [[ $info == *aof_last_bgrewrite_status:ok* ]] || fail 'Redis could not write what it has read' "$(tail -n 1 "$said")"
  [[ $info == *aof_enabled:1* && $info == *aof_rewrite_in_progress:0* && $info == *aof_rewrite_scheduled:0* ]]
}

case ${1:-} in
  new) load_new ;;
  swap)
    folder_ready "$data"
    systemctl stop "$unit"
    folder_swap "$data"
    restart_own start
    ;;
  back)
    # What has not been touched goes on running.
    [[ ! -e $data.old ]] || systemctl stop "$unit"
    folder_back "$data"
    restart_own start
    ;;
  *) folder_step "${1:-}" "$data" ;;
esac
