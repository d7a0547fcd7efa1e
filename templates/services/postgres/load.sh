<%~ include('services/functions.sh', it) %>
<%~ include('services/postgres/functions.sh', it) %>

# DATABASE...: ends all connections to them and lets no more in: they can be renamed then.
close() {
  local IFS=,
  sql postgres -v names="$*" <<'SQL'
SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS false', datname) FROM pg_database
  WHERE datname = ANY (string_to_array(:'names', ',')) \gexec
SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
  WHERE datname = ANY (string_to_array(:'names', ',')) \g /dev/null
SQL
}

# How many tables and indexes are loaded at a time. Each is a connection of the role's, and the site needs some, too.
jobs() {
  local jobs room
  jobs=$(nproc)
  room=$(sql <<'SQL'
SELECT CASE WHEN rolconnlimit < 0 THEN 99 ELSE rolconnlimit - (SELECT count(*) FROM pg_stat_activity WHERE usename = rolname) END
  FROM pg_roles WHERE rolname = :'live';
SQL
  )
  ((jobs <= 4)) || jobs=4
  ((jobs <= room - 5)) || jobs=1
  echo "$jobs"
}

load_new() {
  local dumped bytes size jobs grants=()
  [[ -f $DUMP_SOURCE/database.dump && -f $DUMP_SOURCE/facts ]] || fail_dump "$DUMP_SOURCE is no dump of PostgreSQL"
  dumped=$(fact version "$DUMP_SOURCE/facts") bytes=$(fact bytes "$DUMP_SOURCE/facts")
  size=$(fact size "$DUMP_SOURCE/facts")
  [[ -z $size || $size == "$(stat -c %s "$DUMP_SOURCE/database.dump")" ]] || fail_dump "$DUMP_SOURCE/database.dump is not whole"
  if ((${dumped:-0} > version)); then
    fail_dump "the dump is of PostgreSQL $dumped, and the node has $version" 'load it on a node that has the newer one'
  fi
  [[ $there != *old* ]] || fail "$old is still there: the load before this one was never ended" 'load.sh back, or load.sh done'
  # And the log that is written first; a full disk would stop the server for all sites.
  bytes=${bytes:-0}
  need_room "$data_folder" "$((bytes + (bytes < 1 << 30 ? bytes : 1 << 30) + (32 << 20)))"
  # The site's user must be able to read it; it is removed, and would be overwritten.
  # Not .service.postgres.$instance: of an instance "lock" that is the lock of all.
  list=/run/kraftwerk/.service.postgres.list.$instance
  trap 'rm -f "$list" "$list.all"' EXIT
  as_role pg_restore --list <"$DUMP_SOURCE/database.dump" >"$list.all" || fail_dump 'pg_restore cannot read the dump'
  # What it says of extensions only their owner may say, who may be the server's.
  rm -f "$list"
  grep -v ' COMMENT - EXTENSION ' "$list.all" >"$list" || true
  chown "$user" "$list"
  # Of roles that are another target's, or another node's.
  grep -qxF ";     dbname: $live" "$list.all" || grants=(--no-acl)

  # With the locale, settings and grants of the one that it is to replace, closed to everybody else before it is opened.
  sql <<'SQL'
DROP DATABASE IF EXISTS :"part" WITH (FORCE);
DROP DATABASE IF EXISTS :"new" WITH (FORCE);
SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING %L LC_COLLATE %L LC_CTYPE %L ALLOW_CONNECTIONS false',
    :'part', :'live', pg_encoding_to_char(encoding), datcollate, datctype) FROM pg_database WHERE datname = :'live' \gexec
REVOKE ALL ON DATABASE :"part" FROM PUBLIC;
SELECT format('GRANT %s ON DATABASE %I TO %I', privilege_type, :'part', rolname)
  FROM pg_database, aclexplode(datacl) JOIN pg_roles ON pg_roles.oid = grantee
  WHERE datname = :'live' AND grantee <> datdba \gexec
INSERT INTO pg_db_role_setting (setdatabase, setrole, setconfig)
  SELECT (SELECT oid FROM pg_database WHERE datname = :'part'), setrole, setconfig
  FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = :'live');
ALTER DATABASE :"part" ALLOW_CONNECTIONS true;
SQL
  # Those that the site could not make itself.
  sql "$live" <<'SQL' | sql "$part"
SELECT format('CREATE EXTENSION IF NOT EXISTS %I %s CASCADE;', extname,
    CASE WHEN EXISTS (SELECT FROM pg_available_extension_versions WHERE name = extname AND schema IS NOT NULL) THEN '' ELSE 'SCHEMA public' END)
  FROM pg_extension
  WHERE NOT EXISTS (SELECT FROM pg_available_extension_versions WHERE name = extname AND trusted);
SQL
  jobs=$(jobs)
  # Each job opens it anew, by its descriptor: the folder lets nobody but root in.
  chmod 0644 "$DUMP_SOURCE/database.dump"
  # Long, and nobody else's business.
  exec 9>&-
  as_role pg_restore --exit-on-error --no-owner "${grants[@]}" --use-list="$list" --jobs="$jobs" --dbname="$part" \
    /proc/self/fd/0 <"$DUMP_SOURCE/database.dump" || fail 'pg_restore could not load the dump'
  # Else the first requests would be slow.
  as_role vacuumdb --quiet --analyze-only --jobs="$jobs" --dbname="$part"
  close "$part"
  sql <<<'ALTER DATABASE :"part" RENAME TO :"new";'
}

there=$(databases)
case "${1:-} $there" in
  new\ *) load_new ;;

  'swap live new')
    close "$live" "$new"
    sql <<'SQL'
SET lock_timeout = '10s';
BEGIN;
ALTER DATABASE :"live" RENAME TO :"old";
ALTER DATABASE :"new" RENAME TO :"live";
ALTER DATABASE :"live" ALLOW_CONNECTIONS true;
COMMIT;
SQL
    ;;
  'swap live old') ;;
  swap\ *) fail "nothing is loaded for $live" 'load.sh new' ;;

  'back live old')
    close "$live" "$old"
    sql <<'SQL'
SET lock_timeout = '10s';
BEGIN;
ALTER DATABASE :"live" RENAME TO :"new";
ALTER DATABASE :"old" RENAME TO :"live";
ALTER DATABASE :"live" ALLOW_CONNECTIONS true;
COMMIT;
DROP DATABASE :"new" WITH (FORCE);
SQL
    ;;
  back\ *)
    sql <<'SQL'
SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS true', datname) FROM pg_database WHERE datname = :'live' AND NOT datallowconn \gexec
DROP DATABASE IF EXISTS :"new" WITH (FORCE);
DROP DATABASE IF EXISTS :"part" WITH (FORCE);
SQL
    ;;

  done\ *\ new*) fail "$new was never swapped in" 'load.sh swap, or load.sh back' ;;
  done\ *) sql <<<'DROP DATABASE IF EXISTS :"old" WITH (FORCE);' ;;
  *) fail "a step is new, swap, back or done, not '${1:-}'" ;;
esac
