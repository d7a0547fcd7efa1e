<%~ include('services/functions.sh', it) %>
<%~ include('services/postgres/functions.sh', it) %>
# Beside what PostgreSQL trusts a database's owner with.
allowed=(postgis postgis_raster)
locale=<%= it.options.locale %>

connections=<%= it.options.connections %>

extensions=(<% for (const name of it.options.extensions) { %> <%= name %><% } %>)

sql postgres -v locale="$locale" -v connections="$connections" <<'SQL'
DO $$ DECLARE line int; BEGIN
  SELECT line_number INTO line FROM pg_hba_file_rules WHERE auth_method = 'trust' LIMIT 1;
  IF FOUND THEN RAISE EXCEPTION 'pg_hba.conf, line %, trusts whoever connects: no site would be safe from another', line; END IF;
END $$;

SELECT format('CREATE ROLE %I LOGIN CONNECTION LIMIT %s', :'live', :'connections')
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'live') \gexec
SELECT format('ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD NULL CONNECTION LIMIT %s', rolname, :'connections')
  FROM pg_authid WHERE rolname = :'live' AND (NOT rolcanlogin OR rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication
    OR rolbypassrls OR rolpassword IS NOT NULL OR rolconnlimit <> :'connections') \gexec

-- Closed, until nobody else can connect.
SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING ''UTF8'' LC_COLLATE %L LC_CTYPE %L ALLOW_CONNECTIONS false',
    :'live', :'live', :'locale', :'locale')
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'live') \gexec
-- In the server's own databases sites could leave things for each other.
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', datname)
  FROM pg_database WHERE datname IN (:'live', 'postgres', 'template1')
    AND EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee = 0) \gexec
SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS true', datname)
  FROM pg_database WHERE datname = :'live' AND NOT datallowconn \gexec
SQL

# NAME: whether an extension is "there" already, or who may make it: the database's "owner", an "admin"; or it is "unknown".
how() {
  sql "$live" -v extension="$1" <<'SQL'
SELECT CASE WHEN EXISTS (SELECT FROM pg_extension WHERE extname = :'extension') THEN 'there'
  WHEN bool_or(trusted) THEN 'owner' WHEN count(*) > 0 THEN 'admin' ELSE 'unknown' END
  FROM pg_available_extension_versions WHERE name = :'extension';
SQL
}
for extension in "${extensions[@]}"; do
  way=$(how "$extension")
  [[ $way != admin || " ${allowed[*]} " != *" $extension "* ]] || way=allowed
  make='CREATE EXTENSION :"extension" CASCADE'
  case $way in
    there) ;;
    owner) as_role psql -XAtq -v ON_ERROR_STOP=1 -v extension="$extension" -d "$live" <<<"$make" ;;
    allowed) sql "$live" -v extension="$extension" <<<'CREATE EXTENSION :"extension" SCHEMA public CASCADE' ;;
    admin)
      fail "the extension $extension would let the site act as the database's superuser" \
        'an admin who wants that adds it to "allowed" in a copy of templates/services/postgres/setup.sh'
      ;;
    *)
      fail "PostgreSQL $version has no extension $extension on this node" \
        "on the node: apt-cache search postgresql-$version | grep -i $extension"
      ;;
  esac
done
