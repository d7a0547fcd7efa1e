<%~ include('services/functions.sh', it) %>
<%~ include('services/slots.sh', it) %>
<%~ include('services/rabbitmq/functions.sh', it) %>

load_new() {
  local name definitions
  name=$(other)
  definitions=$(/usr/bin/python3 -ISc '
import json, sys

with open(sys.argv[1]) as file:
    dump = json.load(file)
kinds = ("exchanges", "queues", "bindings", "policies", "parameters")
# Of this vhost alone, whatever else stands there.
kept = {kind: [{**item, "vhost": sys.argv[2]} for item in dump[kind]] for kind in kinds}
print(json.dumps({"vhosts": [{"name": sys.argv[2]}], **kept}))
' "$DUMP_SOURCE" "$name" 2>/dev/null) || fail_dump "$DUMP_SOURCE is no dump of RabbitMQ, or it is cut"
  slot_begin
  import <<<"$definitions"
  write_slots "$live" "$name" ''
}

if [[ ${1:-} == new ]]; then load_new; else slot_step "${1:-}"; fi
