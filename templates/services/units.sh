# For services that are a process of each site's own: include it after functions.sh. systemd runs kraftwerk-NAME@INSTANCE.
# A site's settings are in $STATE_DIR/environment, which the unit names as EnvironmentFile.

# NAME < text: the unit that all sites share.
own_unit() {
  unit_file=/etc/systemd/system/kraftwerk-$1@.service
  unit=kraftwerk-$1@$instance.service
  put "$unit_file" 0644
}

# Has it run as it is written now.
start_own() {
  local wanted state
  wanted=$(sha256sum "$unit_file" "$STATE_DIR/environment")
  state=$(systemctl show --value --property=ActiveState "$unit")
  if [[ $state == active && $wanted == "$(cat "$STATE_DIR/started" 2>/dev/null)" ]]; then return; fi
  # Also has systemd read all units anew. Not with --no-reload: from 257 on a unit whose link it does not know is "changed on disk".
  systemctl --quiet enable "$unit"
  restart_own restart
  put "$STATE_DIR/started" 0600 <<<"$wanted"
}

# restart|start
restart_own() {
  systemctl "$1" "$unit" ||
    # After five starts within seconds systemd wants to be asked once more.
    { [[ $(systemctl show --value --property=Result "$unit") == start-limit-hit ]] &&
      systemctl reset-failed "$unit" && systemctl "$1" "$unit"; } || {
    journalctl --unit "$unit" --lines 5 --output cat >&2
    fail_server "$unit does not start" "on the node: journalctl --unit $unit"
  }
}

# NAME
remove_own() {
  local unit=kraftwerk-$1@$instance.service
  systemctl --quiet disable "$unit" 2>/dev/null || true
  systemctl stop "$unit" 2>/dev/null || true
  systemctl reset-failed "$unit" 2>/dev/null || true
  rm -rf --one-file-system "/run/kraftwerk-$1/$instance"
}
