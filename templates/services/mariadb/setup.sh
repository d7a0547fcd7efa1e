<%~ include('services/functions.sh', it) %>
<%~ include('services/slots.sh', it) %>
<%~ include('services/mariadb/functions.sh', it) %>
collation=<%= it.options.collation %>

connections=<%= it.options.connections %>


has=$(sql <<SQL
SELECT CONCAT_WS(' ',
  (SELECT JSON_VALUE(Priv, '$.plugin') FROM mysql.global_priv WHERE User = '$user' AND Host = 'localhost'),
  (SELECT JSON_VALUE(Priv, '$.max_user_connections') FROM mysql.global_priv WHERE User = '$user' AND Host = 'localhost'),
  (SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = '$live'),
  (SELECT COUNT(*) FROM mysql.db WHERE $(grant_row "$live")));
SQL
)
if [[ $has != "unix_socket $connections 1 1" ]]; then
  sql <<SQL
CREATE USER IF NOT EXISTS '$user'@'localhost' IDENTIFIED VIA unix_socket;
ALTER USER '$user'@'localhost' IDENTIFIED VIA unix_socket WITH MAX_USER_CONNECTIONS $connections;
CREATE DATABASE IF NOT EXISTS \`$live\` CHARACTER SET utf8mb4 COLLATE $collation;
SQL
  give "$live"
fi
write_variables
