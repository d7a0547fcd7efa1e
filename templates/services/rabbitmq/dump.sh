# Exchanges, queues, bindings and policies of the vhost. RabbitMQ hands out no messages without taking them out of the queue.
<%~ include('services/functions.sh', it) %>
<%~ include('services/slots.sh', it) %>
<%~ include('services/rabbitmq/functions.sh', it) %>
exec 9>&-
rabbitmqctl --quiet export_definitions - | /usr/bin/python3 -ISc '
import json, sys

definitions = json.load(sys.stdin)
for kind in ("exchanges", "queues", "bindings", "policies", "parameters"):
    own = [item for item in definitions.get(kind, []) if item.pop("vhost", None) == sys.argv[1]]
    definitions[kind] = own
kept = {kind: definitions[kind] for kind in ("exchanges", "queues", "bindings", "policies", "parameters")}
json.dump({"rabbitmq": definitions["rabbitmq_version"], **kept}, sys.stdout, indent=1)
' "$live" >"$DUMP_TARGET"
