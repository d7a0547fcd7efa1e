<%~ include('services/functions.sh', it) %>
<%~ include('services/slots.sh', it) %>
<%~ include('services/mariadb/functions.sh', it) %>

load_new() {
  local file=$DUMP_SOURCE/database.sql.gz dumped bytes name have
  [[ -f $file && -f $DUMP_SOURCE/facts ]] || fail_dump "$DUMP_SOURCE is no dump of MariaDB"
  # Its last line says that it is whole.
  [[ $(gzip -dc "$file" 2>/dev/null | tail -n 1) == '-- Dump completed'* ]] || fail_dump 'the dump is cut or damaged'
  dumped=$(fact version "$DUMP_SOURCE/facts") bytes=$(fact bytes "$DUMP_SOURCE/facts") have=$(version)
  if ((${dumped:-0} > have)); then
    fail_dump "the dump is of MariaDB $((dumped / 100)).$((dumped % 100)), and the node has $((have / 100)).$((have % 100))" \
      'load it on a node that has the newer one'
  fi
  slot_begin
  # MariaDB waits where a disk is full, with all of its sites.
  need_room "$(sql <<<'SELECT @@datadir')" "$((${bytes:-0} * 3 / 2 + (64 << 20)))"
  name=$(other)
  sql <<SQL
SET @collation = (SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = '$live');
EXECUTE IMMEDIATE CONCAT('CREATE DATABASE \`$name\` CHARACTER SET utf8mb4 COLLATE ', @collation);
SQL
  give "$name"
  exec 9>&-
  # The definers of views, triggers and the like may be another target's account.
  gzip -dc "$file" | sed -E "
    s/^(\/\*!50013 DEFINER=)\`[^\`]*\`@\`[^\`]*\`/\1\`$user\`@\`localhost\`/
    s/^(\/\*!50003 CREATE\*\/ \/\*!50017 DEFINER=)\`[^\`]*\`@\`[^\`]*\`/\1\`$user\`@\`localhost\`/
    s/^(\/\*!50106 CREATE\*\/ \/\*!50117 DEFINER=)\`[^\`]*\`@\`[^\`]*\`/\1\`$user\`@\`localhost\`/
    s/^(CREATE DEFINER=)\`[^\`]*\`@\`[^\`]*\`/\1\`$user\`@\`localhost\`/" |
    as_account mariadb --batch --default-character-set=utf8mb4 "$name" || fail 'MariaDB could not load the dump'
  write_slots "$live" "$name" ''
}

if [[ ${1:-} == new ]]; then load_new; else slot_step "${1:-}"; fi
