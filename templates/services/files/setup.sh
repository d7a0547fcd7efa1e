# The folder of a site's uploads; it outlives every release.
<%~ include('services/functions.sh', it) %>
<%~ include('services/folders.sh', it) %>
uploads=$site/uploads
# The site writes, nginx reads, nobody else does either: what is made in it is of nginx's group, too.
owner=<%= it.user === null ? '' : `${it.user}:${it.nginxUser}` %>

mode=2750
[[ -n $owner ]] || mode=750
if folder_is_missing "$uploads"; then mkdir -m 0700 "$uploads"; fi
[[ -z $owner || $(stat -c %U:%G "$uploads") == "$owner" ]] || chown "$owner" "$uploads"
[[ $(stat -c %a "$uploads") == "$mode" ]] || chmod "$mode" "$uploads"
