# A site's account, and its vhost, are named like its user. RabbitMQ knows no peers: the password is in $STATE_DIR/variables.
read_slots

# < expressions, ended by a full stop; prints their value. Ten times quicker than rabbitmqctl, which starts an Erlang first.
erlang() {
  local said expressions tries=5
  expressions=$(cat)
  until said=$(cd /var/lib/rabbitmq && setpriv --reuid rabbitmq --regid rabbitmq --init-groups \
    env -i PATH="$PATH" LANG="$LANG" HOME=/var/lib/rabbitmq erl_call -sname rabbit -e <<<"$expressions" 9>&- 2>&1); do
    # Where no connection came about, nothing was done.
    if [[ $said != *'failed to connect'* ]] || ((--tries == 0)); then
      fail_server "RabbitMQ does not answer: ${said//${password:-none}/***}" 'on the node: systemctl status rabbitmq-server'
    fi
    sleep 0.2
  done
  [[ $said == '{ok, '*'}' ]] || fail "RabbitMQ: ${said//${password:-none}/***}"
  said=${said#\{ok, }
  printf '%s\n' "${said%\}}"
}

find_server() {
  local deadline=$((SECONDS + 90)) patience=$((SECONDS + 15))
  while ((SECONDS < deadline)); do
    if [[ $(erlang <<<'rabbit:is_running().' 2>/dev/null || true) == true ]]; then return; fi
    # On a machine that is busy it may run, and not answer yet.
    is_starting rabbitmq-server.service ||
      { ((SECONDS < patience)) && systemctl --quiet is-active rabbitmq-server.service; } || break
    sleep 0.25
  done
  fail_server 'RabbitMQ does not answer' 'on the node: systemctl status rabbitmq-server'
}

# FUNCTION ARGS...: of rabbit_auth_backend_internal or the like; all arguments are binaries.
call() {
  local arguments
  printf -v arguments ', <<"%s">>' "${@:2}"
  erlang <<<"$1(${arguments#, })."
}

give() { call rabbit_auth_backend_internal:set_permissions "$user" "$1" '.*' '.*' '.*' kraftwerk >/dev/null; }
take() {
  erlang >/dev/null <<END
User = <<"$user">>, VHost = <<"$1">>,
case rabbit_vhost:exists(VHost) andalso rabbit_auth_backend_internal:exists(User) of
  true -> rabbit_auth_backend_internal:clear_permissions(User, VHost, <<"kraftwerk">>);
  false -> ok
end,
catch rabbit_networking:close_all_user_connections(User, <<"its data is exchanged">>).
END
}
drop() {
  erlang >/dev/null <<END
VHost = <<"$1">>,
case rabbit_vhost:exists(VHost) of true -> rabbit_vhost:delete(VHost, <<"kraftwerk">>); false -> ok end.
END
}

# < definitions as JSON
import() {
  local said
  said=$(erlang <<<"rabbit_definitions:import_raw(base64:decode(\"$(base64 -w 0)\")).")
  [[ $said == ok ]] || fail "RabbitMQ does not take the definitions: ${said:0:500}"
}

write_variables() {
  put "$STATE_DIR/variables" 0600 <<<"RABBITMQ_URL=amqp://$user:$password@127.0.0.1:5672/$live"
}

password=$(sed -n 's/^RABBITMQ_URL=amqp:[^@]*:\([0-9a-f]*\)@.*/\1/p' "$STATE_DIR/variables" 2>/dev/null || true)
[[ -n $password ]] || password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')

one_at_a_time rabbitmq
find_server
