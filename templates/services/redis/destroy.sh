<%~ include('services/functions.sh', it) %>
<%~ include('services/folders.sh', it) %>
<%~ include('services/units.sh', it) %>
remove_own redis
folder_destroy "$site/redis"
