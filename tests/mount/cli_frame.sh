# shellcheck shell=bash
# What the tests of the command line share: programs and mount point below a directory of our own, the
# steps that checks are made of, and the frame around checks. To be sourced with the test's arguments.
#
# Sets:   work, cookiefs, ctl, mnt, out, err; passed, failed, skipped.
# Rules:  after each check nothing is mounted and no process of ours is left; everything is gone at
#         the end.
# shellcheck disable=SC2010,SC2012  # ls is what is tested, on names that we know
# shellcheck disable=SC2015,SC2034,SC2046  # 'a && b || fail'; set for others; a list of pids
set -u
export LC_ALL=C

if [ $# -ne 1 ] || [ ! -x "$1/cookiefs" ] || [ ! -x "$1/cookiefsctl" ]; then
  echo "usage: $0 BUILD_DIR (with cookiefs and cookiefsctl built in it)" >&2
  exit 2
fi

work=$(mktemp -d /tmp/cookiefs_cli.XXXXXX) || exit 1
chmod 755 "$work"
mkdir "$work/bin"
# Copies, because another user has to reach them too.
cp "$1/cookiefs" "$1/cookiefsctl" "$work/bin/" || exit 1
cookiefs=$work/bin/cookiefs
ctl=$work/bin/cookiefsctl
mnt=$work/mnt
out=$work/out
err=$work/err
mkdir "$mnt"
passed=0 failed=0 skipped=0
readonly kDeadline=20  # seconds, for anything that is waited for

# ---- Steps that checks are made of; each tells on stdout what was wrong -------------------------

mounted() { grep -q " $mnt " /proc/self/mountinfo; }

# The processes that have our directory in their arguments, which is unique; none that have ended
# and only wait for their parent to look at them, for their arguments are gone.
daemons() { pgrep -f "$work/"; }

# until_true COMMAND...: waits for it, up to the deadline.
until_true() {
  local end=$((SECONDS + kDeadline))
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.05
  done
}

no_daemons() { [ -z "$(daemons)" ]; }
all_gone() {
  until_true no_daemons || { echo "still running: $(daemons)"; return 1; }
  ! mounted || { echo "still mounted"; return 1; }
}

# start ARGS...: cookiefs goes to the background with status 0, says nothing, and serves.
start() {
  "$cookiefs" "$@" >"$out" 2>"$err"
  local status=$?
  [ $status -eq 0 ] || { echo "exit status $status: $(cat "$err")"; return 1; }
  [ ! -s "$err" ] || { echo "said: $(cat "$err")"; return 1; }
  mounted || { echo "not mounted"; return 1; }
}

# lists COUNT [DIR]: the directory has that many names.
lists() {
  local count
  count=$(ls -f "${2:-$mnt/big}" | grep -vc '^\.\.\?$')
  [ "$count" = "$1" ] || { echo "$count names, not $1"; return 1; }
}

# says STATUS PATTERN COMMAND...: that exit status, one line on stderr that matches.
says() {
  local want=$1 pattern=$2 status
  shift 2
  timeout 60 "$@" >"$out" 2>"$err"
  status=$?
  [ $status -eq "$want" ] || { echo "exit status $status, not $want: $(cat "$err")"; return 1; }
  [ "$(wc -l <"$err")" = 1 ] || { echo "not one line: $(cat "$err")"; return 1; }
  grep -q -e "$pattern" "$err" || { echo "said: $(cat "$err")"; return 1; }
}

# refuses STATUS PATTERN ARGS...: as says(), of cookiefs; and nothing is left.
refuses() {
  local want=$1 pattern=$2
  shift 2
  says "$want" "^cookiefs: .*$pattern" "$cookiefs" "$@" && all_gone
}

# ends COMMAND...: the command succeeds, and mount and process go away.
ends() {
  "$@" 2>"$err" || { echo "$*: exit status $?: $(cat "$err")"; return 1; }
  all_gone
}

signal() { kill "-$1" $(daemons); }

prints() {  # PATTERN COMMAND...: status 0 and the pattern on stdout
  local pattern=$1
  shift
  "$@" >"$out" 2>"$err" || { echo "exit status $?"; return 1; }
  grep -q -e "$pattern" "$out" || { echo "printed: $(cat "$out")"; return 1; }
  [ ! -s "$err" ] || { echo "said: $(cat "$err")"; return 1; }
}

# ---- The frame ----------------------------------------------------------------------------------

clear_away() {
  local pid
  while mounted; do umount -l "$mnt" 2>/dev/null || fusermount3 -uz "$mnt" || break; done
  for pid in $(daemons); do kill "$pid"; done
  until_true no_daemons || for pid in $(daemons); do kill -9 "$pid"; done
}

check() {
  local name=$1 why
  shift
  if why=$("$@" 2>&1); then
    echo "ok      $name"
    passed=$((passed + 1))
  else
    echo "FAILED  $name: $why"
    failed=$((failed + 1))
  fi
  clear_away
}

skip() {
  echo "skipped $1: $2"
  skipped=$((skipped + 1))
}

finish() {
  clear_away
  rm -rf --one-file-system "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

# The last words, and the status.
tell() {
  [ "$skipped" -eq 0 ] || echo "$skipped skipped"
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ]
}
