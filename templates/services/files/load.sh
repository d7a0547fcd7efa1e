<%~ include('services/functions.sh', it) %>
<%~ include('services/folders.sh', it) %>
uploads=$site/uploads
if [[ ${1:-} == new ]]; then
  [[ -d $DUMP_SOURCE/tree ]] || fail_dump "$DUMP_SOURCE holds no uploads"
  folder_begin "$uploads"
  copy_tree put "$DUMP_SOURCE" "$uploads.part" <%= it.options.dump %> <%= it.user === null ? '' : it.nginxUser %>

  folder_loaded "$uploads"
else
  folder_step "${1:-}" "$uploads"
fi
