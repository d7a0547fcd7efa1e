<%~ include('services/functions.sh', it) %>
<%~ include('services/folders.sh', it) %>
folder_destroy "$site/data"
discard "$site/data" .copies
