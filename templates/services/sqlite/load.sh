<%~ include('services/functions.sh', it) %>
<%~ include('services/folders.sh', it) %>
data=$site/data
if [[ ${1:-} == new ]]; then
  [[ -d $DUMP_SOURCE/tree ]] || fail_dump "$DUMP_SOURCE holds no data folder"
  folder_begin "$data"
  copy_tree put "$DUMP_SOURCE" "$data.part" copy "$user"
  as_site /usr/bin/python3 -IS - "$data.part" <<'KRAFTWERK_PYTHON' || fail_dump 'a database of the dump is damaged'
<%~ include('services/sqlite/check.py') %>
KRAFTWERK_PYTHON
  folder_loaded "$data"
else
  folder_step "${1:-}" "$data"
fi
