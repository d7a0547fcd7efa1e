# One moment of all transactional tables, as SQL.
<%~ include('services/functions.sh', it) %>
<%~ include('services/slots.sh', it) %>
<%~ include('services/mariadb/functions.sh', it) %>
exec 9>&-
mkdir "$DUMP_TARGET"
bytes=$(sql <<<"SELECT COALESCE(SUM(data_length + index_length), 0) FROM information_schema.tables WHERE table_schema = '$live'")
have=$(version)
printf 'version=%s\nbytes=%s\n' "$have" "${bytes%.*}" >"$DUMP_TARGET/facts"
as_account mariadb-dump --single-transaction --quick --routines --events --triggers --hex-blob \
  --default-character-set=utf8mb4 "$live" | gzip -1 >"$DUMP_TARGET/database.sql.gz"
