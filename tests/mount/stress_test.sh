#!/usr/bin/env bash
# Short runs of tools/stress over every cookie style of the simulated remote, a directory that
# changes, a remote that fails, and a local directory.
#
#   stress_test.sh BUILD_DIR
#
# COOKIEFS_STRESS_SECONDS: how long each run takes (default 3).
# COOKIEFS_STRESS_QUICK: not empty: fewer styles.
# COOKIEFS_STRESS_MEMORY: MiB of the cgroup in which `unmount` runs (default 256).
# Exit status 77: no /dev/fuse.
set -uo pipefail
export LC_ALL=C
if (($# != 1)) || [[ ! -x $1/cookiefs ]]; then
  echo "usage: $0 BUILD_DIR (with everything built in it)" >&2
  exit 2
fi
build=$(cd "$1" && pwd)
stress=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../tools/stress" && pwd)
seconds=${COOKIEFS_STRESS_SECONDS:-3}
[[ -e /dev/fuse ]] || {
  echo 'SKIPPED: no /dev/fuse'
  exit 77
}
work=$(mktemp -d "${TMPDIR:-/tmp}/cookiefs-stress.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

# run EVICTIONS SCRIPT ARGS...: the script passes, and where EVICTIONS is 'evicts' pages were evicted.
run() {
  local evicts=$1 script=$2 figures
  shift 2
  if ! "$stress/$script" --build "$build" --seconds "$seconds" "$@" >"$work/out" 2>&1 </dev/null; then
    # What was wrong first: of a long log somebody may see no more than the lines after FAILED.
    echo "FAILED  $script $*: $(sed -n 's/^ *wrong: //p' "$work/out" | paste -sd';')"
    grep '^  | ' "$work/out" | head -n 4
    sed 's/^/        /' "$work/out"
    failed=$((failed + 1))
    return
  fi
  figures=$(tail -n 1 "$work/out")
  if [[ $evicts = evicts && $figures = *' evictions=0 '* ]]; then
    echo "FAILED  $script $*: nothing was evicted, so nothing was tried: $figures"
    failed=$((failed + 1))
    return
  fi
  echo "ok      $script $*: ${figures#figures: }"
  passed=$((passed + 1))
}

styles='ordered hashed descending huge index name'
[[ -z ${COOKIEFS_STRESS_QUICK:-} ]] || styles='huge name'
for cookies in $styles; do
  run evicts ls --cache-size 1M --jobs 5 "sim:big=40000,rtt=1ms,batch=2000,cookies=$cookies"
done
for cookies in hashed ${COOKIEFS_STRESS_QUICK:-name}; do
  [[ $cookies != "${COOKIEFS_STRESS_QUICK:-}" ]] || continue
  run evicts find --cache-size 1M --jobs 4 "sim:tree=100x400,mix,deep=20,rtt=1ms,cookies=$cookies"
done
run evicts ls --cache-size 1M --jobs 4 --stable file- \
  sim:big=40000,churn=20,rtt=1ms,cookies=hashed,verifier=strict
run evicts ls --cache-size 1M --jobs 4 --retries 100 --kinds getdents -o timeout=2s \
  sim:big=40000,faults=error:0.02+empty:0.01+badname:0.01,rtt=1ms,cookies=ordered,eofcookie=sentinel

mkdir "$work/local"
(cd "$work/local" && seq -f 'a-name-of-some-length-%08.0f' 30000 | xargs touch)
run evicts ls --cache-size 1M --jobs 5 "$work/local"
# Over SFTP without ssh; what ssh would be told goes to the shell's own parameters.
sftp_server=/usr/lib/openssh/sftp-server
if [[ -x $sftp_server ]]; then
  sftp_options="ssh_command=sh -c 'exec $sftp_server'"
  mkdir "$work/tree"
  for ((i = 0; i < 60; i++)); do
    mkdir "$work/tree/d$i" && (cd "$work/tree/d$i" && seq -f 'file-%06.0f' 300 | xargs touch)
  done
  run evicts ls --cache-size 1M --jobs 3 --expect 30000 -o "$sftp_options" "sftp://here$work/local"
  run - find --cache-size 1M --jobs 3 -o "$sftp_options" "sftp://here$work/tree"
  # Small enough to be listed whole between two unmounts on a busy machine.
  run - unmount --cache-size 1M --jobs 3 --seconds $((2 * seconds)) \
    --memory "${COOKIEFS_STRESS_MEMORY:-256}" -o "$sftp_options" "sftp://here$work/tree/d1"
else
  echo "not tried over SFTP: $sftp_server is missing (tools/test install)"
  failed=$((failed + 1))
fi
run evicts unmount --cache-size 2M --jobs 4 --memory "${COOKIEFS_STRESS_MEMORY:-256}" \
  sim:big=60000,tree=100x50,rtt=1ms,cookies=hashed

echo "$passed passed, $failed failed"
((failed == 0))
