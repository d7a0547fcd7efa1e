<%~ include('services/functions.sh', it) %>
<%~ include('services/postgres/functions.sh', it) %>
sql <<'SQL'
DROP DATABASE IF EXISTS :"part" WITH (FORCE);
DROP DATABASE IF EXISTS :"new" WITH (FORCE);
DROP DATABASE IF EXISTS :"old" WITH (FORCE);
DROP DATABASE IF EXISTS :"live" WITH (FORCE);
DROP ROLE IF EXISTS :"live";
SQL
