<%~ include('services/functions.sh', it) %>
<%~ include('services/slots.sh', it) %>
<%~ include('services/rabbitmq/functions.sh', it) %>

# As it comes it listens to the whole world. What an admin has written about that stays.
listens() { erlang <<<'application:get_env(rabbit, tcp_listeners) =:= {ok, [{"127.0.0.1", 5672}]}.'; }
if ! grep -qsE '^ *listeners\.' /etc/rabbitmq/rabbitmq.conf && [[ $(listens) != true ]]; then
  install -d -m 0755 /etc/rabbitmq/conf.d
  put /etc/rabbitmq/conf.d/kraftwerk.conf 0644 <<<'listeners.tcp.local = 127.0.0.1:5672'
  systemctl restart rabbitmq-server.service
  find_server
fi

# Everybody knows the password of that one.
erlang >/dev/null <<'END'
case rabbit_auth_backend_internal:exists(<<"guest">>) of
  true -> rabbit_auth_backend_internal:delete_user(<<"guest">>, <<"kraftwerk">>);
  false -> ok
end.
END

write_variables
wanted=$(/usr/bin/python3 -IS - "$user" "$live" <%= it.options.connections %> "$STATE_DIR/variables" <<'KRAFTWERK_PYTHON'
import base64, hashlib, json, re, sys

user, vhost, connections, variables = sys.argv[1:]
with open(variables) as file:
    password = re.search(r":([0-9a-f]+)@", file.read()).group(1)
# Of the password itself, so that the same definitions come out each time; it has 192 bits.
salt = hashlib.sha256(b"salt" + password.encode()).digest()[:4]
hashed = base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
everything = {"configure": ".*", "write": ".*", "read": ".*"}
print(json.dumps({
    "users": [{
        "name": user,
        "password_hash": hashed,
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": "",
        "limits": {"max-connections": int(connections), "max-channels": 10 * int(connections)},
    }],
    "vhosts": [{"name": vhost}],
    "permissions": [{"user": user, "vhost": vhost, **everything}],
}))
KRAFTWERK_PYTHON
)
hash=$(sha256sum <<<"$wanted")
can_log_in() {
  erlang <<END
User = <<"$user">>, VHost = <<"$live">>,
rabbit_vhost:exists(VHost) andalso rabbit_auth_backend_internal:exists(User) andalso
  lists:any(fun(Right) -> lists:member({vhost, VHost}, Right) end, rabbit_auth_backend_internal:list_user_permissions(User)) andalso
  element(1, rabbit_auth_backend_internal:user_login_authentication(User, [{password, <<"$password">>}])) =:= ok.
END
}
if [[ $(can_log_in) != true || $hash != "$(cat "$STATE_DIR/definitions" 2>/dev/null)" ]]; then
  import <<<"$wanted"
  put "$STATE_DIR/definitions" 0600 <<<"$hash"
fi
