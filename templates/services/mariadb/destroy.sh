<%~ include('services/functions.sh', it) %>
<%~ include('services/slots.sh', it) %>
<%~ include('services/mariadb/functions.sh', it) %>
drop "$user"
drop "$user.2"
sql <<<"DROP USER IF EXISTS '$user'@'localhost'"
