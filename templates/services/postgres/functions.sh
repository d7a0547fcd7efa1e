# A site's role, and its database, are named like its user: peer authentication lets that user in and nobody else, and
# psql needs no arguments. A name with a dot cannot be another site's.
live=$user new=$user.new old=$user.old part=$user.part

# What the postmaster says of itself: its data folder, and so which version it is.
find_server() {
  local lock=/run/postgresql/.s.PGSQL.5432.lock deadline=$((SECONDS + 60)) ready=2
  while ((SECONDS < deadline)); do
    # It goes with the server, also while we look.
    data_folder=$(sed -n 2p "$lock" 2>/dev/null || true)
    if [[ -n $data_folder ]]; then
      version=$(<"$data_folder/PG_VERSION")
      programs=/usr/lib/postgresql/$version/bin
      [[ -x $programs/psql ]] || fail "there is no $programs/psql" 'on the node: apt-get install postgresql'
      ready=0
      "$programs/pg_isready" -q -h /run/postgresql -p 5432 || ready=$?
      ((ready > 0)) || return 0
    fi
    # 1: it recovers from a crash.
    ((ready == 1)) || is_starting 'postgresql@*.service' || break
    sleep 0.2
  done
  fail_server 'PostgreSQL does not answer at /run/postgresql, port 5432' 'on the node: systemctl status "postgresql@*"'
}

# [DATABASE [ARGS...]] < SQL: as the server's owner. :'live', :"live" and so on are quoted by psql. Who owns a database may set
# its search_path, and have functions of their own behind every name that is looked for there: PGOPTIONS counts for more.
sql() {
  setpriv --reuid postgres --regid postgres --init-groups \
    env -i PATH="$PATH" LANG="$LANG" PGOPTIONS='-c client_min_messages=warning -c search_path=pg_catalog,pg_temp' \
    "$programs/psql" -XAtqw -h /run/postgresql -p 5432 -v ON_ERROR_STOP=1 \
    -v live="$live" -v new="$new" -v old="$old" -v part="$part" -d "${1:-postgres}" "${@:2}" 9>&-
}

# PROGRAM ARGS...: one of PostgreSQL's, as the site's role. What a dump holds, or a site's functions, is never run by another.
as_role() { as_site PGOPTIONS='-c client_min_messages=error' "$programs/$1" -h /run/postgresql -p 5432 -w "${@:2}"; }

# Which of the first three there are: "live", "live new", "live old". The fourth is being made.
databases() {
  sql <<'SQL'
SELECT coalesce(string_agg(part, ' ' ORDER BY part), '')
  FROM (VALUES ('live', :'live'), ('new', :'new'), ('old', :'old')) AS wanted (part, name) JOIN pg_database ON datname = name;
SQL
}

find_server
one_at_a_time postgres
