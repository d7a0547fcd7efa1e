# A site's account, and its database, are named like its user, whom the server knows by the socket.
socket=/run/mysqld/mysqld.sock
read_slots

# < SQL, as root
sql() { mariadb --no-defaults --socket="$socket" --batch --skip-column-names 9>&-; }

# PROGRAM ARGS...: as the site's user. What a dump holds is never run by another.
as_account() { as_site "$1" --no-defaults --socket="$socket" --user="$user" "${@:2}"; }

find_server() {
  local said deadline=$((SECONDS + 60))
  while ((SECONDS < deadline)); do
    if said=$(mariadb-admin --no-defaults --socket="$socket" ping 2>&1); then return; fi
    is_starting mariadb.service || break
    sleep 0.2
  done
  fail_server "MariaDB does not answer: ${said##*$'\n'}" 'on the node: systemctl status mariadb'
}

# NAME: in a grant _ stands for any character, unless it is escaped.
granted() { printf '%s' "${1//_/\\_}"; }
# NAME: where the site's grant for a database is kept.
grant_row() { printf "Db = '%s' AND User = '%s' AND Host = 'localhost'" "${1//_/\\\\_}" "$user"; }
give() { sql <<<"GRANT ALL PRIVILEGES ON \`$(granted "$1")\`.* TO '$user'@'localhost'"; }
# Not REVOKE, which fails where there is no grant.
take() {
  sql <<<"DELETE FROM mysql.db WHERE $(grant_row "$1"); FLUSH PRIVILEGES"
  # In one go: it may be a hundred.
  sql <<<"SELECT CONCAT('KILL ', id, ';') FROM information_schema.processlist WHERE user = '$user' AND db = '$1'" |
    sql 2>/dev/null || true
}
drop() {
  sql <<<"DROP DATABASE IF EXISTS \`$1\`"
  take "$1"
}
write_variables() {
  local url="mysql://$user@localhost/$live?unix_socket=$socket"
  put "$STATE_DIR/variables" 0600 <<END
DATABASE_URL=$url
MARIADB_URL=$url
MARIADB_DATABASE=$live
END
}

# 10.11 as 1011
version() {
  local text
  text=$(sql <<<'SELECT VERSION()')
  [[ $text =~ ^([0-9]+)\.([0-9]+) ]] && echo "$((BASH_REMATCH[1] * 100 + BASH_REMATCH[2]))"
}

find_server
one_at_a_time mariadb
