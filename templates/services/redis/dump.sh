# One moment of all databases, in Redis' own format; the server goes on meanwhile.
<%~ include('services/functions.sh', it) %>
said=$STATE_DIR/said
socket=/run/kraftwerk-redis/$instance/redis.sock
as_site redis-cli -e -s "$socket" ping >/dev/null 2>"$said" ||
  fail_server "Redis does not answer: $(head -n 1 "$said")" "on the node: systemctl status kraftwerk-redis@$instance"
if ! as_site redis-cli -s "$socket" --rdb - >"$DUMP_TARGET" 2>"$said"; then
  tail -n 5 "$said" >&2
  fail 'Redis did not hand out its data'
fi
# The mark by which its stream ends: redis-cli leaves it where it cannot seek.
! grep -q 'until EOF marker' "$said" || truncate -s -40 "$DUMP_TARGET"
[[ $(head -c 5 "$DUMP_TARGET") == REDIS && $(tail -c 9 "$DUMP_TARGET" | head -c 1 | od -An -tx1) == ' ff' ]] ||
  fail 'what Redis handed out is not whole'
