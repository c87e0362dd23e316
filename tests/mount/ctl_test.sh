#!/bin/bash
# cookiefsctl on real mounts: what each subcommand tells and does, and how it fails.
#
#   ctl_test.sh BUILD_DIR
#
# Root sees all of it; others skip what needs another user.
# shellcheck disable=SC2012  # ls is what is tested, on names that we know
# shellcheck disable=SC2015,SC2016,SC2046  # 'a && b || fail'; jq's variables; a list of pids
# shellcheck source=tests/mount/cli_frame.sh
source "$(dirname "${BASH_SOURCE[0]}")/cli_frame.sh"

as_nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
tree=$work/tree  # a local source

# figure PATH FILTER: of `cookiefsctl dir --json`. requests: what the remote was asked so far.
figure() { jq -r "$2" < <("$ctl" dir --json "$1"); }
requests() { jq .remote.requests < <("$ctl" stats --json "$mnt"); }

# is GOT WANTED WHAT
is() { [ "$1" = "$2" ] || { echo "$3: '$1', not '$2'"; return 1; }; }

# fails PATTERN COMMAND...: status 1, nothing on stderr, and the pattern on stdout.
fails() {
  local pattern=$1 status
  shift
  timeout 60 "$@" >"$out" 2>"$err"
  status=$?
  is $status 1 "exit status" && is "$(cat "$err")" "" "stderr" || return 1
  grep -q -e "$pattern" "$out" || { echo "printed: $(cat "$out")"; return 1; }
}

# ---- Wrong paths, dead daemons, other users: every command alike --------------------------------

commands=(stats dir map check warm "top --once" drop invalidate sync)

everywhere() {  # TARGET STATUS PATTERN [PREFIX...] of each command
  local target=$1 want=$2 pattern=$3 command
  shift 3
  for command in "${commands[@]}"; do
    # shellcheck disable=SC2086  # a command and its option
    says "$want" "^cookiefsctl: .*$pattern" "$@" "$ctl" $command "$target" ||
      { echo "$command"; return 1; }
  done
}
wrong_paths() {
  everywhere "$mnt" 1 'not in a cookiefs mount' && everywhere "$work/none" 1 'no such file'
}
check "not a cookiefs mount" wrong_paths

usage_errors() {
  local command
  for command in dir map check warm top sync; do
    says 2 '^cookiefsctl: .*is required' "$ctl" $command || { echo "$command"; return 1; }
  done
  says 2 'bogus' "$ctl" dir --bogus "$mnt" && says 2 '' "$ctl" list too many &&
    says 2 'depth' "$ctl" warm "$mnt" --depth deep && says 2 'jobs' "$ctl" warm "$mnt" --jobs 0 &&
    says 2 'interval' "$ctl" top "$mnt" --interval 0
}
check "usage" usage_errors

dead() {
  start sim:big=1000 "$mnt" && signal KILL && until_true no_daemons || return 1
  everywhere "$mnt" 1 'daemon has died'
}
check "a dead daemon" dead

others() {
  start sim:big=1000 "$mnt" -o allow_other || return 1
  everywhere "$mnt" 1 'not permitted' "${as_nobody[@]}" || return 1
  "${as_nobody[@]}" "$ctl" list --json >"$out" && is "$(state_of "$mnt")" "not permitted" "list"
}

# ---- list ---------------------------------------------------------------------------------------

# state_of MOUNTPOINT: in $out.
state_of() { jq -r --arg m "$1" '.mounts[] | select(.mountpoint == $m) | .state' "$out"; }

if [ "$(id -u)" = 0 ]; then
  check "other users" others
else
  skip "other users" "needs root"
fi

lists_mounts() {
  mkdir -p "$work/a b\\c" && start sim:big=1000 "$mnt" -o cache_size=8M && lists 1000 &&
    start sim:tree=2x2 "$work/a b\\c" && "$ctl" list --json >"$out" || return 1
  is "$(state_of "$mnt")" alive "state" && is "$(state_of "$work/a b\\c")" alive "state" || return 1
  local mine
  mine=$(jq -c --arg m "$mnt" '.mounts[] | select(.mountpoint == $m) | [.source, .limit_bytes, .entries]' "$out")
  is "$mine" '["sim:big=1000",8388608,1000]' "figures" || return 1
  prints "^sim:big=1000 *$mnt .* 8.0 MiB *1,000$" "$ctl" list || return 1
  fusermount3 -u "$work/a b\\c"
}
check "list" lists_mounts

lists_dead() {
  start sim:big=1000 "$mnt" && signal KILL && until_true no_daemons || return 1
  "$ctl" list --json >"$out" && is "$(state_of "$mnt")" dead "state" || return 1
  prints "^sim:big=1000 *$mnt *dead$" "$ctl" list
}
check "list: a dead daemon" lists_dead

lists_hung() {
  start sim:big=1000 "$mnt" || return 1
  local pid
  pid=$(daemons)
  kill -STOP "$pid"
  # Also when somebody waits for the end of what it prints.
  timeout $kDeadline bash -c '"$0" list --json | cat >"$1"' "$ctl" "$out"
  local status=$?
  kill -CONT "$pid"
  is $status 0 "exit status" && is "$(state_of "$mnt")" "no answer" "state"
}
check "list: a daemon that hangs holds nobody up" lists_hung

# ---- dir ----------------------------------------------------------------------------------------

shows_directory() {
  start sim:big=1000 "$mnt" -o ttl=1h || return 1
  is "$(figure "$mnt/big" '[.entries.resident, .complete, .token_age_seconds] | @json')" \
    '[0,false,null]' "never listed" && lists 1000 || return 1
  is "$(figure "$mnt/big" '[.entries.resident, .complete, .arrays.resident, .arrays.known, .ttl_seconds] | @json')" \
    '[1000,true,5,5,3600]' "listed" || return 1
  is "$(figure "$mnt/big" '.bytes > 5 * 4096 and .token_age_seconds < 600 and .listing_age_seconds < 600
    and .readdir.misses > 0 and .remote.requests > 0 and (.change_token | length) > 0')" true "figures" ||
    return 1
  local hits
  hits=$(figure "$mnt/big" .readdir.hits)
  lists 1000 || return 1
  is "$(figure "$mnt/big" ".readdir.hits - $hits >= 5")" true "hits of a second listing" || return 1
  prints '^entries held *1,000, complete$' "$ctl" dir "$mnt/big" || return 1
  "$ctl" drop "$mnt" >/dev/null
  is "$(figure "$mnt/big" '[.entries.resident, .complete, .arrays.known] | @json')" '[0,false,5]' "dropped"
}
check "dir" shows_directory

local_tree() {
  rm -rf "$tree" && mkdir -p "$tree"/{one,two/below} && touch "$tree"/{a,b,c} "$tree"/one/{d,e} \
    "$tree/two/below/f"
}

tells_causes() {
  local_tree && start "$tree" "$mnt" -o ttl=0 && lists 5 "$mnt" || return 1
  is "$(figure "$mnt" '[.invalidations.count, .invalidations.last_cause, .invalidations.last_age_seconds] | @json')" \
    '[0,"never",null]' "at first" || return 1
  touch "$tree/new" && lists 6 "$mnt" || return 1
  is "$(figure "$mnt" '[.invalidations.count, .invalidations.last_cause] | @json')" \
    '[1,"changed on the remote"]' "after a change" || return 1
  "$ctl" invalidate "$mnt" >/dev/null
  is "$(figure "$mnt" '[.invalidations.last_cause, .invalidations.last_age_seconds < 600] | @json')" \
    '["told to",true]' "after an order" || return 1
  prints '^invalidations *[23], last .* ago: told to$' "$ctl" dir "$mnt"
}
check "dir: why a listing was forgotten" tells_causes

as_attribute() {
  start sim:big=1000 "$mnt" -o allow_other && lists 1000 || return 1
  # Whatever was asked for before: "there are none" must not reach the kernel.
  ls -l "$mnt/big" >/dev/null
  getfattr --only-values -n user.cookiefs.dir "$mnt/big" >"$out" 2>"$err" || { cat "$err"; return 1; }
  is "$(jq .entries.resident "$out")" 1000 "entries" || return 1
  is "$(jq -c keys "$out")" "$(jq -c keys < <("$ctl" dir --json "$mnt/big"))" "keys" || return 1
  ! getfattr -n user.other "$mnt/big" 2>"$err" || { echo "another name has a value"; return 1; }
  grep -q 'not supported' "$err" || { cat "$err"; return 1; }
  ! getfattr -n user.cookiefs.dir "$mnt/big/$(ls "$mnt/big" | head -1)" 2>"$err" ||
    { echo "a file has it"; return 1; }
  [ "$(id -u)" != 0 ] || ! "${as_nobody[@]}" getfattr -n user.cookiefs.dir "$mnt/big" 2>"$err" ||
    { echo "others see it"; return 1; }
}
check "dir: the same as an extended attribute" as_attribute

# ls asks each file for its ACL and more, unless the first answer says that there are none.
ls_asks_once() {
  "$cookiefs" -d sim:big=10000 "$mnt" -o ttl=1h >"$out" 2>"$err" &
  local asked
  until_true mounted && ls -l "$mnt/big" >/dev/null || return 1
  asked=$(grep -c GETXATTR "$err")
  [ "$asked" -le 4 ] || { echo "$asked requests for extended attributes"; return 1; }
}
check "ls -l does not ask for extended attributes file by file" ls_asks_once

# ---- map ----------------------------------------------------------------------------------------

maps() {
  start sim:big=1000000 "$mnt" -o cache_size=8M && prints ': 0 entries or more' "$ctl" map "$mnt/big" &&
    ls -f "$mnt/big" >/dev/null && prints ': 1,000,000 entries' "$ctl" map "$mnt/big" || return 1
  grep -q '\.\.\..*#\|#.*\.\.\.' < <(tr -d '\n' <"$out") || { echo "not in part: $(cat "$out")"; return 1; }
  "$ctl" map "$mnt/big" --svg "$work/map.svg" && grep -q '^<svg' "$work/map.svg" &&
    [ "$(grep -c '<rect' "$work/map.svg")" -gt 1000 ] && grep -q '</svg>' "$work/map.svg" ||
    { echo "no image"; return 1; }
  says 1 "can't be written" "$ctl" map "$mnt/big" --svg "$work/none/map.svg"
}
check "map" maps

maps_whole() {
  start sim:big=1000 "$mnt" && lists 1000 && prints ': 1,000 entries, 100.0 % held' "$ctl" map "$mnt/big"
}
check "map: a listing that is held" maps_whole

# ---- check --------------------------------------------------------------------------------------

finds_nothing() {
  start sim:big=20000,tree=5x5,cookies=hashed "$mnt" && lists 20000 || return 1
  prints '20,000 names, no difference; listed .* ago, confirmed .* ago' "$ctl" check "$mnt/big" &&
    prints '8 directories, 20,032 names: 0 differences, 0 failures' "$ctl" check -r "$mnt"
}
check "check: no difference" finds_nothing

finds_stale() {
  local_tree && start "$tree" "$mnt" -o ttl=1h && ls -R "$mnt" >/dev/null || return 1
  touch "$tree/new"$'\n''name' "$tree/two/below/g" && rm "$tree/b" "$tree/two/below/f" || return 1
  fails ': 5 names, 2 differences; listed .* ago' "$ctl" check "$mnt" || return 1
  grep -q '^  missing  *new\\012name$' "$out" && grep -q '^  stale  *b$' "$out" ||
    { echo "printed: $(cat "$out")"; return 1; }
  fails '^4 directories, .*: 4 differences, 0 failures$' "$ctl" check --recursive "$mnt" || return 1
  lists 5 "$mnt" || return 1  # what is checked stays as it was
  "$ctl" invalidate "$mnt" >/dev/null && "$ctl" invalidate "$mnt/two/below" >/dev/null &&
    prints ' 0 differences' "$ctl" check -r "$mnt"
}
check "check: what changed behind a long ttl" finds_stale

bears_changes() {
  local turn
  # Far away and busy: between two looks at the remote much comes and goes.
  start sim:big=20000,rtt=30ms,batch=2000,churn=3000 "$mnt" -o ttl=0 || return 1
  for turn in 1 2 3; do
    "$ctl" check "$mnt/big" >"$out" 2>"$err" || { echo "turn $turn: $(head -5 "$out" "$err")"; return 1; }
  done
}
check "check: what changes meanwhile is no difference" bears_changes

# ---- warm ---------------------------------------------------------------------------------------

warms() {
  start sim:tree=50x20,rtt=5ms "$mnt" -o ttl=1h && prints '^52 directories warm' "$ctl" warm "$mnt" || return 1
  local before
  before=$(requests)
  ls -R "$mnt" >/dev/null && is "$(requests)" "$before" "requests after ls -R" || return 1
  prints '^52 directories warm (52 of them before)' "$ctl" warm "$mnt" --jobs 3 &&
    is "$(requests)" "$before" "requests after a second warm"
}
check "warm" warms

leaves_to_kernel() {
  start sim:tree=5x20 "$mnt" -o ttl=1h,kernel_listings=yes && ls -R "$mnt" >/dev/null || return 1
  "$ctl" drop "$mnt" >/dev/null && prints '^7 directories warm' "$ctl" warm "$mnt"
}
check "warm: what the kernel keeps itself" leaves_to_kernel

warms_attributes() {
  start sim:tree=5x1000,rtt=5ms "$mnt" -o ttl=1h,readdirplus=no &&
    prints '^7 directories warm' "$ctl" warm "$mnt" --attributes || return 1
  is "$(figure "$mnt/tree/dir-0" '.arrays.with_attributes == .arrays.resident and .arrays.resident > 4')" \
    true "attributes" || return 1
  local before
  before=$(requests)
  ls -lR "$mnt" >/dev/null && is "$(requests)" "$before" "requests after ls -lR"
}
check "warm --attributes" warms_attributes

warms_to_depth() {
  start sim:tree=5x5 "$mnt" && prints '^1 directory warm' "$ctl" warm "$mnt" --depth 0 || return 1
  prints '^2 directories warm' "$ctl" warm "$mnt" --depth 1 &&
    prints '^4 directories warm' "$ctl" warm "$mnt/tree/dir-"{0,1,2,3} --depth 0
}
check "warm --depth, several paths" warms_to_depth

warms_what_fits() {
  start sim:tree=4000x50,rtt=1ms "$mnt" -o cache_size=4M,ttl=1h &&
    fails '^[1-9][0-9,]* directories known are not.*the cache is full' "$ctl" warm "$mnt" || return 1
  is "$(jq '.reclaim.pages < .free_page.calls + .pages.resident' < <("$ctl" stats --json "$mnt"))" true "pages"
}
check "warm: a full cache" warms_what_fits

one_too_long() {
  start sim:big=1000000,rtt=1ms "$mnt" -o cache_size=4M,ttl=1h &&
    fails '^1 directories known are not.*the cache is full' "$ctl" warm "$mnt/big"
}
check "warm: a directory that does not fit" one_too_long

warms_past_failures() {
  local_tree && start "$tree" "$mnt" -o ttl=1h && lists 5 "$mnt" && rm -r "$tree/one" || return 1
  timeout 60 "$ctl" warm "$mnt" >"$out" 2>"$err"
  is $? 1 "exit status" && grep -q '^cookiefsctl: .*/one: ' "$err" && grep -q '^1 failed' "$out" &&
    grep -q '^3 directories warm' "$out" || { cat "$out" "$err"; return 1; }
}
check "warm: goes on past a failure" warms_past_failures

is_interrupted() {
  start sim:tree=1000x10,rtt=2s "$mnt" || return 1
  # Without job control a shell lets its background commands ignore SIGINT.
  env --default-signal=INT "$ctl" warm "$mnt" --jobs 2 >"$out" 2>"$err" &
  local pid=$! status
  asks() { [ "$(jq .remote.inflight < <("$ctl" stats --json "$mnt"))" -gt 0 ]; }
  until_true asks || return 1
  kill -INT $pid
  wait $pid
  status=$?
  is $status 1 "exit status" && grep -q 'are not.*: interrupted$' "$out" || { cat "$out" "$err"; return 1; }
}
check "warm: SIGINT" is_interrupted

# ---- stats --------------------------------------------------------------------------------------

stats_page() {
  start sim:big=1000 "$mnt" -o cache_size=8M && lists 1000 && lists 1000 || return 1
  prints '^  hit ratio  *[0-9.]* %$' "$ctl" stats "$mnt" && grep -q '^  bytes each ' "$out" &&
    grep -q '^  requests a second ' "$out" || { echo "printed: $(cat "$out")"; return 1; }
}
check "stats: what follows from the counters" stats_page

# ---- top ----------------------------------------------------------------------------------------

tops() {
  start sim:big=1000,tree=5x5 "$mnt" && ls -R "$mnt" >/dev/null || return 1
  prints 'MEMORY .* ENTRIES .* DIRECTORY$' "$ctl" top --once "$mnt" || return 1
  grep -q ' 1,000 .* /big$' "$out" && grep -q ' /tree/dir-0$' "$out" && grep -q ' 8 directories' "$out" ||
    { echo "printed: $(cat "$out")"; return 1; }
  # The first by memory is the longest.
  is "$(sed -n 5p "$out" | grep -c '/big$')" 1 "the first" || return 1
  # Also where nothing above it has been listed.
  "$ctl" drop "$mnt" >/dev/null && ls "$mnt/tree/dir-3" >/dev/null &&
    prints ' /tree/dir-3$' "$ctl" top --once "$mnt" || return 1
  # Without a terminal: tables, one after the other.
  "$ctl" top --interval 0.1 "$mnt" >"$out" &
  local pid=$! status
  several() { [ "$(grep -c DIRECTORY "$out")" -gt 2 ]; }
  until_true several
  status=$?
  kill $pid
  wait $pid
  is $status 0 "several tables"
}
check "top: plain lines" tops

pane() { tmux -S "$work/tmux" "$@"; }
shown() { grep -q -e "$1" < <(pane capture-pane -p -t top); }
no_pane() { ! pane has-session -t top 2>/dev/null; }

on_terminal() {
  start sim:big=1000,tree=5x5 "$mnt" && ls -R "$mnt" >/dev/null || return 1
  pane -f /dev/null new-session -d -s top -x 100 -y 20 "exec '$ctl' top --interval 0.2 '$mnt'" || return 1
  until_true shown '\*MEMORY' && until_true shown ' 1,000 .* /big$' && until_true shown 'q quit' ||
    { pane capture-pane -p -t top; pane kill-server; return 1; }
  pane send-keys -t top r
  until_true shown '\*REQUESTS' || { echo "not sorted"; pane kill-server; return 1; }
  pane resize-window -t top -x 120 -y 10
  last_line() { grep -q 'q quit' < <(pane capture-pane -p -t top | sed -n 10p); }
  until_true last_line || { echo "not resized"; pane kill-server; return 1; }
  pane send-keys -t top d
  dropped() { [ "$(jq .entries.resident < <("$ctl" stats --json "$mnt"))" = 0 ]; }
  until_true dropped || { echo "not dropped"; pane kill-server; return 1; }
  pane send-keys -t top q
  until_true no_pane || { echo "still there"; pane kill-server; return 1; }
}
if command -v tmux >/dev/null; then
  check "top on a terminal" on_terminal
else
  skip "top on a terminal" "needs tmux"
fi

tell
