<%~ include('services/functions.sh', it) %>
<%~ include('services/units.sh', it) %>
remove_own memcached
