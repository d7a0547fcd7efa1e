# One moment of the database, in pg_dump's custom format, and what is good to know before it is loaded.
<%~ include('services/functions.sh', it) %>
<%~ include('services/postgres/functions.sh', it) %>
exec 9>&-
mkdir "$DUMP_TARGET"
bytes=$(sql <<<"SELECT pg_database_size(:'live')")
printf 'version=%s\nbytes=%s\n' "$version" "$bytes" >"$DUMP_TARGET/facts"
as_role pg_dump --format=custom --dbname="$live" >"$DUMP_TARGET/database.dump"
# pg_restore does not always miss what was cut off at the end.
printf 'size=%s\n' "$(stat -c %s "$DUMP_TARGET/database.dump")" >>"$DUMP_TARGET/facts"
