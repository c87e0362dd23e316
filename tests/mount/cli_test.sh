#!/bin/bash
# The command line end to end: cookiefs and cookiefsctl as people and mount(8) run them.
#
#   cli_test.sh BUILD_DIR
#
# Root sees all of it; others skip what needs mount(8). Everything happens below a directory of our
# own; mount(8) finds the binary in a mount namespace of ours, so nothing is installed.
# shellcheck disable=SC2010,SC2012  # ls is what is tested, on names that we know
# shellcheck disable=SC2015,SC2016,SC2046  # 'a && b || fail'; bash -c; a list of pids
# shellcheck source=tests/mount/cli_frame.sh
source "$(dirname "${BASH_SOURCE[0]}")/cli_frame.sh"

# ---- Help and usage -----------------------------------------------------------------------------

check "help" prints '^usage: cookiefs \[options\] SOURCE MOUNTPOINT' "$cookiefs" -h
check "long help" prints 'cache_size=SIZE' "$cookiefs" --help
check "version" prints '^cookiefs [0-9]' "$cookiefs" -V
check "no arguments" refuses 2 'SOURCE and MOUNTPOINT are missing'
check "no mount point" refuses 2 'MOUNTPOINT is missing' sim:big=1000
check "an argument too many" refuses 2 'one argument too many' sim:big=1000 "$mnt" "$mnt"
check "unknown flag" refuses 2 '-x: unknown option' -x sim:big=1000 "$mnt"
check "unknown option" refuses 2 'cachesize: unknown option; did you mean cache_size=' \
  sim:big=1000 "$mnt" -o cachesize=64M
check "a cache of zero" refuses 2 'cache_size=0: a cache needs at least 1M; try cache_size=64M' \
  sim:big=1000 "$mnt" -o cache_size=0
check "a cache below the minimum" refuses 2 'at least 1M' sim:big=1000 "$mnt" -o cache_size=4k
check "a floor above the cache" refuses 2 'more than cache_size=2M' \
  sim:big=1000 "$mnt" -o cache_size=2M,cache_min=4M
check "a value that is none" refuses 2 'ttl=soon: not a time' sim:big=1000 "$mnt" -o ttl=soon

# ---- Mount points and sources that can't work ---------------------------------------------------

touch "$work/file"
check "mount point missing" refuses 1 'no such directory' sim:big=1000 "$work/none"
check "mount point a file" refuses 1 'not a directory' sim:big=1000 "$work/file"
check "mount point below a file" refuses 1 'not a directory' sim:big=1000 "$work/file/x"
check "unknown scheme" refuses 1 'gopher' gopher://host/path "$mnt"
check "unknown key of sim" refuses 1 'bogus' sim:bogus=1 "$mnt"
check "bad value of sim" refuses 1 'big' sim:big=many "$mnt"
check "empty value of sim" refuses 1 'big' sim:big= "$mnt"
check "source missing" refuses 1 'none' "$work/none" "$mnt"
check "source missing, as a URL" refuses 1 'none' "file://$work/none" "$mnt"
check "source a file" refuses 1 'file' "$work/file" "$mnt"
check "source missing, foreground" refuses 1 'none' -f "$work/none" "$mnt"

# ---- Into the background, and out of it ---------------------------------------------------------

starts_and() {
  start sim:big=1000 "$mnt" && lists 1000 && ends "$@"
}
check "background; fusermount3 -u" starts_and fusermount3 -u "$mnt"
if [ "$(id -u)" = 0 ]; then
  check "background; umount" starts_and umount "$mnt"
fi
for name in INT TERM HUP; do
  check "background; SIG$name" starts_and signal $name
done

leaves_terminal() {
  start sim:big=1000 "$mnt" || return 1
  local pid fd
  pid=$(daemons)
  [ "$(readlink "/proc/$pid/cwd")" = / ] || { echo "cwd is not /"; return 1; }
  [ "$(ps -o sid= -p "$pid" | tr -d ' ')" = "$pid" ] || { echo "no session of its own"; return 1; }
  for fd in 0 1 2; do
    [ "$(readlink "/proc/$pid/fd/$fd")" = /dev/null ] || { echo "holds fd $fd"; return 1; }
  done
  ends fusermount3 -u "$mnt"
}
check "the daemon leaves terminal and directory" leaves_terminal

captured() {
  local said
  said=$(timeout $kDeadline "$cookiefs" sim:big=1000 "$mnt" 2>&1) || { echo "status $?"; return 1; }
  [ -z "$said" ] || { echo "said: $said"; return 1; }
  lists 1000
}
check "its output can be captured" captured

closed_files() {
  "$cookiefs" sim:big=1000 "$mnt" <&- >&- 2>&- || { echo "exit status $?"; return 1; }
  lists 1000 && ends fusermount3 -u "$mnt"
}
check "without stdin, stdout and stderr" closed_files

again_and_again() {
  local turn
  for turn in 1 2 3 4 5 6 7 8; do
    start sim:big=1000 "$mnt" && lists 1000 && fusermount3 -u "$mnt" || { echo "turn $turn"; return 1; }
  done
  all_gone
}
check "mounted again at once" again_and_again

foreground() {  # FLAG
  env --default-signal "$cookiefs" "$1" sim:big=1000 "$mnt" >"$out" 2>"$err" &
  local pid=$!
  until_true mounted && lists 1000 || return 1
  [ "$(daemons)" = $pid ] || { echo "not in the foreground"; return 1; }
  kill -INT $pid
  wait $pid || { echo "exit status $?: $(tail -1 "$err")"; return 1; }
  all_gone
}
check "-f stays in the foreground" foreground -f
traces() { foreground -d && grep -q -i lookup "$err"; }
check "-d stays in the foreground and traces requests" traces

one_thread() { start -s sim:big=1000 "$mnt" && lists 1000; }
check "-s" one_thread

options_anywhere() {
  start -o ttl=0 sim:big=1000 -o cache_size=8M "$mnt" \
    -orw,nodev,nosuid,noatime,fsname=a\\,b,max_read=65536 && lists 1000 || return 1
  grep -q ' - fuse.cookiefs a,b ' /proc/self/mountinfo || { echo "fsname is lost"; return 1; }
}
check "options before, between and after" options_anywhere

shows_type() {
  start sim:big=1000 "$mnt" || return 1
  grep -q " $mnt .* - fuse.cookiefs " /proc/self/mountinfo || { cat /proc/self/mountinfo; return 1; }
}
check "the mount is of type fuse.cookiefs" shows_type

relative() {
  mkdir -p "$work/tree/sub" && touch "$work/tree/a" "$work/tree/b"
  cd "$work" && start ./tree mnt && lists 3 "$mnt" && lists 0 "$mnt/sub" && ends signal TERM
}
check "relative source and mount point" relative

auto_size() {
  env --default-signal "$cookiefs" -f -o cache_size=auto sim:big=1000 "$mnt" >"$out" 2>"$err" &
  local pid=$! mib
  until_true mounted && lists 1000 || return 1
  mib=$(sed -nE 's/.*cache_size=auto: ([0-9]+) MiB.*/\1/p' "$err")
  grep -q "\"limit_bytes\": *$((mib << 20))," < <("$ctl" stats --json "$mnt") ||
    { echo "said '$mib' MiB, but: $("$ctl" stats --json "$mnt" | grep limit_bytes)"; return 1; }
  kill -INT $pid
  wait $pid || { echo "exit status $?: $(tail -1 "$err")"; return 1; }
}
check "cache_size=auto is what it says" auto_size

# ---- Mount points in use ------------------------------------------------------------------------

second() {
  start sim:big=1000 "$mnt" || return 1
  says 1 '^cookiefs: .*already mounted here' "$cookiefs" sim:big=7 "$mnt" || return 1
  says 1 '^cookiefs: .*already mounted here' "$cookiefs" -f sim:big=7 "$mnt/." || return 1
  lists 1000 && ends fusermount3 -u "$mnt"
}
check "a second mount on the same point" second

dead() {
  start sim:big=1000 "$mnt" && signal KILL && until_true no_daemons || return 1
  says 1 'fusermount3 -u' "$ctl" stats "$mnt" || return 1
  "$cookiefs" sim:big=1000 "$mnt" >"$out" 2>"$err" && lists 1000 || return 1
  grep -q 'cleared away the mount' "$err" || { echo "said: $(cat "$err")"; return 1; }
  [ "$(grep -c " $mnt " /proc/self/mountinfo)" = 1 ] || { echo "still mounted twice"; return 1; }
}
check "a mount whose daemon has died is cleared away by the next one" dead

dead_of_others() {
  start sim:big=1000 "$mnt" -o subtype=other && signal KILL && until_true no_daemons || return 1
  says 1 'fusermount3 -u' "$cookiefs" sim:big=1000 "$mnt" && fusermount3 -u "$mnt"
}
check "one of another kind is not" dead_of_others

nonempty() {
  touch "$mnt/below" && start sim:big=1000 "$mnt" && lists 1000 || return 1
  [ ! -e "$mnt/below" ] || { echo "shines through"; return 1; }
  ends fusermount3 -u "$mnt" && rm "$mnt/below"
}
check "a mount point with files in it" nonempty

busy() {
  start sim:big=1000 "$mnt" || return 1
  exec 9<"$mnt/big"
  ! fusermount3 -u "$mnt" 2>/dev/null || { echo "unmounted though in use"; return 1; }
  lists 1000 || return 1
  exec 9<&-
  ends fusermount3 -u "$mnt"
}
check "a mount in use is not unmounted" busy

lazy() {
  start sim:big=1000 "$mnt" || return 1
  exec 9<"$mnt/big"
  fusermount3 -uz "$mnt" || return 1
  exec 9<&-
  all_gone
}
check "a lazy unmount ends with its last user" lazy

# ---- mount(8) and fstab -------------------------------------------------------------------------

# in_namespace COMMAND...: where /usr/local/bin holds cookiefs and nothing else, and /dev/fuse is
# for everybody, as distributions have it.
in_namespace() {
  [ -e "$work/fuse" ] || { mknod "$work/fuse" c 10 229 && chmod 666 "$work/fuse"; } || return 1
  unshare --mount --propagation private bash -c \
    'mount --bind "$0/bin" /usr/local/bin && mount --bind "$0/fuse" /dev/fuse && exec "$@"' \
    "$work" "$@"
}

mount_helper() {
  in_namespace bash -c '
    mount -t fuse.cookiefs sim:big=1000,rtt=1ms "$0" \
      -o ttl=0,cache_size=8M,noatime,nofail,_netdev,x-test=1 &&
    [ "$(ls "$0/big" | wc -l)" = 1000 ] && umount "$0"' "$mnt" && all_gone
}
fstab_line() {
  mkdir -p "$work/a tree" && touch "$work/a tree/"{a,b,c}
  printf '%s/a\\040tree %s fuse.cookiefs %s 0 0\n' "$work" "$mnt" \
    noauto,user,_netdev,ttl=1m,allow_other,x-test=1 >"$work/fstab"
  in_namespace bash -c '
    mount -T "$1/fstab" "$0" && [ "$(ls "$0" | wc -l)" = 3 ] && umount "$0"' \
    "$mnt" "$work" && all_gone
}
mount_fails() {
  ! in_namespace mount -t fuse.cookiefs sim:bogus=1 "$mnt" 2>"$err" ||
    { echo "exit status 0"; return 1; }
  grep -q bogus "$err" || { echo "said: $(cat "$err")"; return 1; }
  all_gone
}
as_helper() {
  ln -sf cookiefs "$work/bin/mount.fuse.cookiefs"
  "$work/bin/mount.fuse.cookiefs" sim:big=1000 "$mnt" -n -v -o rw,nodev -t fuse.cookiefs &&
    lists 1000
}
if [ "$(id -u)" != 0 ]; then
  skip "mount -t fuse.cookiefs and fstab" "needs root"
elif ! in_namespace true 2>/dev/null; then
  skip "mount -t fuse.cookiefs and fstab" "no mount namespaces here"
else
  check "mount -t fuse.cookiefs" mount_helper
  check "a line of fstab" fstab_line
  check "mount -t fuse.cookiefs tells of failure" mount_fails
fi
check "called as mount.fuse.cookiefs" as_helper

# ---- cookiefsctl --------------------------------------------------------------------------------

check "ctl: help" prints 'invalidate' "$ctl" --help
check "ctl: no command" says 2 '^cookiefsctl: ' "$ctl"
check "ctl: no mount point" says 2 'MOUNTPOINT is required' "$ctl" stats
check "ctl: missing" says 1 'no such file' "$ctl" stats "$work/none"
check "ctl: not a directory" says 1 'not a directory' "$ctl" stats "$work/file"
check "ctl: not a cookiefs" says 1 'not in a cookiefs mount' "$ctl" stats "$mnt"
check "ctl: drop elsewhere" says 1 'not in a cookiefs mount' "$ctl" drop /proc
check "ctl: invalidate elsewhere" says 1 'not in a cookiefs mount' "$ctl" invalidate "$work/file"

ctl_json() {
  start sim:big=1000 "$mnt" -o cache_size=8M && lists 1000 && "$ctl" stats --json "$mnt" >"$out" ||
    return 1
  local key
  for key in cache limit_bytes bytes peak_bytes pages resident pinned names entries readdir calls \
    hits misses uncached remote requests inflight_peak errors reclaim refaults free_page \
    invalidations; do
    grep -q "\"$key\":" "$out" || { echo "$key is missing: $(cat "$out")"; return 1; }
  done
  grep -q '"limit_bytes": *8388608' "$out" || { echo "not our limit: $(cat "$out")"; return 1; }
}
check "ctl: stats --json has every key" ctl_json

ctl_page() {
  start sim:big=1000 "$mnt" -o cache_size=8M && lists 1000 || return 1
  prints 'limit  *8.0 MiB' "$ctl" stats "$mnt" && prints '^readdir' "$ctl" stats "$mnt/big"
}
check "ctl: stats as a page" ctl_page

ctl_drop() {
  start sim:big=1000 "$mnt" && lists 1000 || return 1
  prints '^[1-9][0-9]* pages dropped' "$ctl" drop "$mnt" && lists 1000
}
check "ctl: drop" ctl_drop

ctl_invalidate() {
  start sim:big=1000 "$mnt" && lists 1000 || return 1
  local file
  file=$mnt/big/$(ls "$mnt/big" | head -1)
  prints '^[1-9][0-9]* arrays of .*/big invalidated' "$ctl" invalidate "$mnt/big" || return 1
  lists 1000 && prints '^[1-9][0-9]* arrays of .*/big invalidated' "$ctl" invalidate "$file" ||
    return 1
  lists 1000 && says 1 'no such file' "$ctl" invalidate "$mnt/big/no such name"
}
check "ctl: invalidate" ctl_invalidate

# ---- Other users --------------------------------------------------------------------------------

as_nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)

others_may_read() {
  start sim:big=1000 "$mnt" -o allow_other || return 1
  [ "$("${as_nobody[@]}" ls "$mnt/big" | wc -l)" = 1000 ] || { echo "can't list"; return 1; }
  says 1 'not permitted' "${as_nobody[@]}" "$ctl" stats "$mnt" || return 1
  says 1 'not permitted' "${as_nobody[@]}" "$ctl" drop "$mnt" || return 1
  says 1 'not permitted' "${as_nobody[@]}" "$ctl" invalidate "$mnt/big"
}
others_may_not() {
  start sim:big=1000 "$mnt" || return 1
  says 1 'permission denied' "${as_nobody[@]}" "$ctl" stats "$mnt"
}
closed_mountpoint() {
  mkdir -p "$work/closed" && chmod 755 "$work/closed"
  says 1 '^cookiefs: .*permission denied' "${as_nobody[@]}" "$cookiefs" sim:big=1000 "$work/closed"
}
own_mount() {
  chown 65534 "$mnt"
  in_namespace "${as_nobody[@]}" bash -e -c '
    cookiefs sim:big=1000 "$0"
    [ "$(ls "$0/big" | wc -l)" = 1000 ]
    cookiefsctl stats "$0" >/dev/null
    fusermount3 -u "$0"' "$mnt" && chown 0 "$mnt" && all_gone
}
if [ "$(id -u)" = 0 ]; then
  check "allow_other: others list, but don't control" others_may_read
  check "without allow_other others see nothing" others_may_not
  check "a mount point of somebody else" closed_mountpoint
  check "a mount of an ordinary user" own_mount
else
  skip "other users" "needs root"
fi

tell
