<%~ include('services/functions.sh', it) %>
<%~ include('services/folders.sh', it) %>
data=$site/data
if folder_is_missing "$data"; then
  mkdir -m 0700 "$data"
fi
[[ -z $user || $(stat -c %U:%G "$data") == "$user:$user" ]] || chown "$user:$user" "$data"
