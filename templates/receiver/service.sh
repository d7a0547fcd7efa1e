# The receiver's service: runit starts it with the machine, and again when it ends.

step Service
<% if (it.sudoers !== null) { %>
new=$(mktemp)
base64 -d >"$new" <<'KRAFTWERK_FILE'
<%~ it.sudoers %>

KRAFTWERK_FILE
# A broken file there would keep everybody from sudo.
visudo -q -c -f "$new" || fail 'sudo does not take what templates/receiver/sudoers says' 'mend the template'
put /etc/sudoers.d/kraftwerk 0440 < <(base64 "$new")
rm "$new"
<% } %>
# As the receiver will see it: its own user, its own home.
said=$(setpriv --reuid=kraftwerk --regid=kraftwerk --init-groups env HOME=<%= it.data %> \
  <%= it.node %> --no-addons <%= it.program %> show-config --config <%= it.config %> 2>&1) || {
  printf '%s\n' "$said"
  fail 'the user kraftwerk cannot start kraftwerk, or not with this configuration' \
    'what is above says why; kraftwerk and all that the configuration names must be readable for that user'
}

inode() { stat -c %i "$1" 2>/dev/null || true; }
service=/etc/sv/kraftwerk
before=$(inode "$service/run")
<% for (const file of it.files) { %>
put <%= file.path %> <%= file.mode %> <<'KRAFTWERK_FILE'
<%~ file.base64 %>

KRAFTWERK_FILE
<% } %>
link "$service" /etc/service/kraftwerk

# runsvdir looks every five seconds.
for ((tries = 0; tries < 300; tries++)); do
  [[ ! -p $service/supervise/ok ]] || ! sv status "$service" >/dev/null || break
  sleep 0.1
done
if ! state=$(sv status "$service"); then
  fail "runit does not supervise $service" 'systemctl status runit'
fi
if [[ $state == down* ]]; then
  sv up "$service"
  changed 'kraftwerk started'
elif [[ -n $before && $before != "$(inode "$service/run")" ]]; then
  note 'restarting the receiver: deploys that run are finished first'
  sv -w 600 restart "$service" || fail 'the receiver does not end' "sv status $service" 'tail /var/log/kraftwerk/current'
  changed 'kraftwerk restarted'
fi
