# Runs the script that follows it on stdin to its end, whatever becomes of the connection, and shows what it prints.
# The braces: all of this is read before any of it runs, and nothing runs unless all of the script has come.
{
  set -uo pipefail
  umask 022
  folder=/run/kraftwerk-setup
  log=/var/log/kraftwerk-setup.log
  mkdir -p "$folder" && chmod 700 "$folder" || exit 1
  script=$(mktemp "$folder/XXXXXXXX") || exit 1
  trap 'rm -f "$script"' EXIT
  head -c <%= it.bytes %> >"$script"
  if [[ $(stat -c %s "$script") != <%= it.bytes %> ]]; then
    echo '@error the script did not arrive whole'
    exit 1
  fi
  exec 9>"$folder/lock"
  if ! flock -n 9; then
    echo '@note a set-up that was cut off still runs here: waiting for its end'
    if ! flock -w <%= it.waitSeconds %> 9; then
      echo '@error another set-up runs here and does not end'
      printf '@hint what it does: tail -f %s\n' "$log"
      exit 1
    fi
  fi
  { touch "$log" && chmod 600 "$log"; } || exit 1
  # A server is set up again and again: its log does not grow for ever.
  if (($(stat -c %s "$log") > 1000000)); then : >"$log"; fi
  printf '\n==> %s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" <%= it.name %> >>"$log"
  start=$(stat -c %s "$log")
  # The holder of the lock is a shell of its own: what the script leaves running does not get it.
  (
    trap '' HUP
    bash "$script" </dev/null 9>&-
  ) >>"$log" 2>&1 &
  job=$!
  tail -c "+$((start + 1))" -s 0.1 -f --pid="$job" "$log" 9>&- &
  code=0
  wait "$job" || code=$?
  wait $!
  exit "$code"
}
