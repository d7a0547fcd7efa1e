# For services whose server cannot rename: two names, of which one is live; $STATE_DIR/slots says which. Include it after
# functions.sh. What the site connects to is in $STATE_DIR/variables, so a swap is one rename of a small file.
read_slots() {
  live=$user new='' old=''
  [[ -e $STATE_DIR/slots ]] || return 0
  { read -r live && read -r new && read -r old; } <"$STATE_DIR/slots" || fail "$STATE_DIR/slots is damaged"
}
other() { if [[ $live == "$user" ]]; then echo "$user.2"; else echo "$user"; fi; }

# LIVE NEW OLD
write_slots() {
  live=$1 new=$2 old=$3
  put "$STATE_DIR/slots" 0600 <<<"$live"$'\n'"$new"$'\n'"$old"
}

# STEP: what load.sh does in all steps but `new`. The service has: give NAME, take NAME (its site may use it, or may not),
# drop NAME (also where there is none), write_variables (those of $live).
slot_step() {
  case $1 in
    swap)
      [[ -n $new$old ]] || fail "nothing is loaded for $live" 'load.sh new'
      [[ -z $new ]] || write_slots "$new" '' "$live"
      give "$live"
      write_variables
      take "$old"
      ;;
    back)
      if [[ -n $old ]]; then
        give "$old"
        write_slots "$old" "$live" ''
      fi
      write_variables
      drop "$(other)"
      write_slots "$live" '' ''
      ;;
    done)
      [[ -z $new ]] || fail "$new was never swapped in" 'load.sh swap, or load.sh back'
      drop "$(other)"
      write_slots "$live" '' ''
      ;;
    *) fail "a step is new, swap, back or done, not '$1'" ;;
  esac
}

# Before the other one is made anew.
slot_begin() {
  [[ -z $old ]] || fail "$old is still there: the load before this one was never ended" 'load.sh back, or load.sh done'
  write_slots "$live" '' ''
  drop "$(other)"
}
