<%~ include('services/functions.sh', it) %>
<%~ include('services/slots.sh', it) %>
<%~ include('services/rabbitmq/functions.sh', it) %>
drop "$user"
drop "$user.2"
erlang >/dev/null <<END
User = <<"$user">>,
case rabbit_auth_backend_internal:exists(User) of
  true -> rabbit_auth_backend_internal:delete_user(User, <<"kraftwerk">>);
  false -> ok
end.
END
