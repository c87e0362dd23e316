# shellcheck shell=bash
# Mounting, unmounting, memory cgroups and the daemon's figures, for scripts. Source common.sh first.
#
# One mount at a time: mount_start sets MOUNT_DIR, MOUNT_PID and MOUNT_LOG; mount_stop and
# mount_ended fill in MOUNT_STATUS, MOUNT_LEAKS and MOUNT_PROBLEM. Everything is undone on exit.
# COOKIEFS_RUN may hold a command to run the daemon under, such as 'setarch -R'.
# shellcheck disable=SC2034  # what is set here is used by those who source it

MOUNT_DIR='' MOUNT_PID='' MOUNT_LOG='' MOUNT_STATUS='' MOUNT_LEAKS=0 MOUNT_PROBLEM=''
CGROUP='' CGROUP_VERSION='' CGROUP_ROOT=''

# Asks the kernel's table, not the file system, which may not answer.
is_mounted() { awk -v dir="$1" '$5 == dir { found = 1 } END { exit !found }' /proc/self/mountinfo; }

# mount_start SOURCE [OPTIONS]: with -f, its log in $WORK; into $CGROUP where that is set. Returns 1
# and sets MOUNT_PROBLEM when the mount does not come up within 60 s.
mount_start() {
  local source=$1 options=${2:-} deadline=$((SECONDS + 60))
  MOUNT_DIR=$WORK/mnt MOUNT_STATUS='' MOUNT_LEAKS=0 MOUNT_PROBLEM=''
  MOUNT_LOG=$WORK/daemon.log
  mkdir -p "$MOUNT_DIR"
  mount_daemon "$source" "$options" </dev/null >"$MOUNT_LOG" 2>&1 &
  MOUNT_PID=$!
  until is_mounted "$MOUNT_DIR"; do
    if ! is_running "$MOUNT_PID" || ((SECONDS >= deadline)); then
      MOUNT_PROBLEM="no mount: $(tail -n 1 "$MOUNT_LOG")"
      mount_kill
      return 1
    fi
    sleep 0.02
  done
}

mount_daemon() {
  trap - EXIT INT TERM HUP
  [[ -z $CGROUP ]] || echo "$BASHPID" >"$CGROUP/cgroup.procs"
  # Unquoted on purpose: a command with its options.
  # shellcheck disable=SC2086
  exec ${COOKIEFS_RUN:-} "$BUILD/cookiefs" -f ${2:+-o "$2"} "$1" "$MOUNT_DIR"
}

unmount_once() {
  if [[ $(id -u) = 0 ]]; then
    umount "$@" "$MOUNT_DIR"
  else
    fusermount3 -u ${1:+-z} "$MOUNT_DIR"
  fi
} 2>/dev/null

# Where each thread of a process that does not end stands: in the kernel as far as root may see it,
# in its own code with gdb.
thread_states() {
  local task
  for task in /proc/"$1"/task/*; do
    echo "thread ${task##*/} $(cat "$task/comm"): $(sed -E 's/.*\) (.).*/\1/' "$task/stat")," \
      "in $(awk '{ print $2 }' "$task/stack" | head -n 4 | paste -s -d ' ')"
  done 2>/dev/null
  ! command -v gdb >/dev/null || timeout 60 gdb -p "$1" -batch -ex 'thread apply all bt 12' 2>/dev/null |
    grep -E '^(Thread|#)'
}

# mount_stop normal|lazy|signal, then waits for the daemon's end (at most 60 s) and reads its last
# words. `normal` repeats while the mount is busy. Returns 1 and sets MOUNT_PROBLEM when anything
# was wrong.
mount_stop() {
  local deadline=$((SECONDS + 30))
  case $1 in
    normal)
      until unmount_once || ! is_mounted "$MOUNT_DIR"; do
        if ((SECONDS >= deadline)); then
          MOUNT_PROBLEM='still busy after 30 s'
          mount_kill
          return 1
        fi
        sleep 0.05
      done
      ;;
    lazy) unmount_once -l || true ;;
    signal) kill -TERM "$MOUNT_PID" 2>/dev/null || true ;;
  esac
  [[ ${2:-} = --no-wait ]] || mount_ended
}

# Waits for the daemon to end after mount_stop --no-wait.
mount_ended() {
  if ! wait_for_end "$MOUNT_PID" 60; then
    MOUNT_PROBLEM="the daemon did not end within 60 s ($(tail -n 1 "$MOUNT_LOG"))"
    thread_states "$MOUNT_PID" >>"$MOUNT_LOG" 2>&1
    mount_kill
    return 1
  fi
  wait "$MOUNT_PID" 2>/dev/null && MOUNT_STATUS=0 || MOUNT_STATUS=$?
  MOUNT_PID=''
  if is_mounted "$MOUNT_DIR"; then
    MOUNT_PROBLEM='the daemon ended and left the mount'
    mount_kill
  elif ((MOUNT_STATUS != 0)); then
    MOUNT_PROBLEM="the daemon ended with status $MOUNT_STATUS: $(mount_last_words)"
  elif ! read_leaks; then
    MOUNT_PROBLEM="no line 'unmounted: pages=...' in the daemon's log"
  elif ((MOUNT_LEAKS != 0)); then
    MOUNT_PROBLEM="leaks: $(grep -o 'unmounted: pages=.*' "$MOUNT_LOG" | tail -n 1)"
  fi
  [[ -z $MOUNT_PROBLEM ]]
}

# What says most: a sanitizer's summary, a failed check, else the last line.
mount_last_words() {
  grep -E 'SUMMARY: |CHECK|terminate called|runtime error' "$MOUNT_LOG" | tail -n 1 | grep . ||
    tail -n 1 "$MOUNT_LOG"
}

# The sum of what the daemon's last line says it still held.
read_leaks() {
  local line
  line=$(grep -o 'unmounted: pages=.*' "$MOUNT_LOG" | tail -n 1)
  [[ -n $line ]] || return 1
  MOUNT_LEAKS=$(tr ' ' '\n' <<<"$line" | awk -F= '$1 != "free_page" && NF == 2 { sum += $2 < 0 ? -$2 : $2 }
                                                END { printf "%.0f", sum }')
}

mount_kill() {
  if [[ -n $MOUNT_DIR ]] && is_mounted "$MOUNT_DIR"; then unmount_once -l; fi
  if is_running "$MOUNT_PID"; then
    wait_for_end "$MOUNT_PID" 2 || kill -TERM "$MOUNT_PID" 2>/dev/null
    wait_for_end "$MOUNT_PID" 5 || kill -KILL "$MOUNT_PID" 2>/dev/null
  fi
  [[ -z $MOUNT_PID ]] || wait "$MOUNT_PID" 2>/dev/null
  MOUNT_PID=''
  return 0
}
on_exit mount_kill

# stat_of KEY: one of cookiefsctl's figures, such as remote.requests; 0 when it can't be had.
stat_of() {
  local key=$1
  "$BUILD/cookiefsctl" stats "$MOUNT_DIR" --json 2>/dev/null |
    jq -r --arg key "$key" 'getpath($key | split(".")) // .[$key] // 0' 2>/dev/null | grep . || echo 0
}

drop_pages() { "$BUILD/cookiefsctl" drop "$MOUNT_DIR" >/dev/null 2>&1; }

# ------------------------------------------------------------------------- memory cgroups -------

# Finds a hierarchy with a memory controller that we may use. Returns 1 and sets CGROUP_PROBLEM.
cgroup_find() {
  CGROUP_PROBLEM=''
  if [[ $(id -u) != 0 ]]; then
    CGROUP_PROBLEM='making a memory cgroup needs root'
    return 1
  fi
  CGROUP_ROOT=$(awk '$0 ~ / - cgroup / && $NF ~ /(^|,)memory(,|$)/ { print $5; exit }' /proc/self/mountinfo)
  CGROUP_VERSION=1
  [[ -z $CGROUP_ROOT ]] || return 0
  CGROUP_VERSION=2
  CGROUP_ROOT=$(awk '$0 ~ / - cgroup2 / { print $5; exit }' /proc/self/mountinfo)
  if [[ -z $CGROUP_ROOT ]] || ! grep -qw memory "$CGROUP_ROOT/cgroup.controllers" 2>/dev/null; then
    CGROUP_PROBLEM='no cgroup hierarchy with a memory controller is mounted'
    return 1
  fi
  grep -qw memory "$CGROUP_ROOT/cgroup.subtree_control" ||
    echo +memory >"$CGROUP_ROOT/cgroup.subtree_control" || {
    CGROUP_PROBLEM="the memory controller can't be enabled in $CGROUP_ROOT"
    return 1
  } 2>/dev/null
}

# cgroup_create BYTES: makes CGROUP, limited to BYTES with swap. Returns 1 and sets CGROUP_PROBLEM.
cgroup_create() {
  cgroup_find || return 1
  CGROUP=$CGROUP_ROOT/cookiefs-$PROGRAM-$$
  if ! mkdir "$CGROUP" 2>/dev/null; then
    CGROUP_PROBLEM="can't make $CGROUP"
    CGROUP=''
    return 1
  fi
  if ((CGROUP_VERSION == 1)); then
    CGROUP_LIMIT_FILE=$CGROUP/memory.limit_in_bytes CGROUP_USAGE_FILE=$CGROUP/memory.usage_in_bytes
    echo "$1" >"$CGROUP_LIMIT_FILE"
    [[ ! -w $CGROUP/memory.memsw.limit_in_bytes ]] ||
      echo "$1" >"$CGROUP/memory.memsw.limit_in_bytes" || true
  else
    CGROUP_LIMIT_FILE=$CGROUP/memory.max CGROUP_USAGE_FILE=$CGROUP/memory.current
    echo "$1" >"$CGROUP_LIMIT_FILE"
    [[ ! -w $CGROUP/memory.swap.max ]] || echo 0 >"$CGROUP/memory.swap.max" || true
  fi
} 2>/dev/null

cgroup_oom_kills() {
  local file=$CGROUP/memory.events
  ((CGROUP_VERSION == 2)) || file=$CGROUP/memory.oom_control
  awk '$1 == "oom_kill" { print $2; found = 1 } END { if (!found) print 0 }' "$file"
}

cgroup_remove() {
  local pid try
  [[ -n $CGROUP && -d $CGROUP ]] || return 0
  for ((try = 0; try < 50; try++)); do
    # Only what this script put there is in it.
    while read -r pid; do kill -KILL "$pid" 2>/dev/null; done <"$CGROUP/cgroup.procs"
    ! rmdir "$CGROUP" 2>/dev/null || break
    sleep 0.1
  done
  [[ ! -d $CGROUP ]] || warn "could not remove $CGROUP"
  CGROUP=''
}
on_exit 'mount_kill; cgroup_remove'

# neighbour_start SIZE FILE [OPTIONS]: a process in $CGROUP that takes up to SIZE bytes again and
# again, and reads FILE over and over. Sets NEIGHBOUR_PID.
neighbour_start() {
  neighbour_run "$@" </dev/null >"$WORK/neighbour.log" 2>&1 &
  NEIGHBOUR_PID=$!
}
neighbour_run() {
  trap - EXIT INT TERM HUP
  echo "$BASHPID" >"$CGROUP/cgroup.procs"
  exec "$BUILD/memory_neighbour" --size "$1" --file "$2" --usage-file "$CGROUP_USAGE_FILE" \
    --limit-file "$CGROUP_LIMIT_FILE" --stat-file "$CGROUP/memory.stat" "${@:3}"
}
neighbour_stop() {
  is_running "$NEIGHBOUR_PID" && kill -TERM "$NEIGHBOUR_PID" 2>/dev/null
  [[ -z $NEIGHBOUR_PID ]] || wait "$NEIGHBOUR_PID" 2>/dev/null
  NEIGHBOUR_PID=''
  return 0
}
NEIGHBOUR_PID=''
on_exit neighbour_stop
