# Databases by SQLite itself, each at one moment, while they are in use; all other files as they are.
<%~ include('services/functions.sh', it) %>
<%~ include('services/folders.sh', it) %>
data=$site/data
# Made by the site's user and seen through by root, who follows nobody's links.
copies=$site/data.copies
discard "$data" .copies
trap 'discard "$data" .copies' EXIT
mkdir "$copies"
[[ -z $user ]] || chown "$user:$user" "$copies"
found=$STATE_DIR/found
as_site /usr/bin/python3 -IS - "$data" "$copies" >"$found" <<'KRAFTWERK_PYTHON'
<%~ include('services/sqlite/back-up.py') %>
KRAFTWERK_PYTHON
copy_tree take "$data" "$DUMP_TARGET" copy "$found"
copy_tree take "$copies" "$DUMP_TARGET" link
# Of links that are about to go.
: >"$DUMP_TARGET/copied"
