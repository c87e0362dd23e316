# shellcheck shell=bash
# What the scripts in tools/ share: output, clean-up, packages, building. To be sourced.
#
# Sets:   ROOT (the source tree), BUILD (the build tree, from $COOKIEFS_BUILD or ROOT/build), WORK (a
#         temporary directory of this run, made by make_work_dir).
# Rules:  works as root or with sudo, with or without a terminal, with stdin from /dev/null; ends
#         only what it started, by process id; whatever was begun with on_exit is undone on every
#         way out.
# shellcheck disable=SC2034  # what is set here is used by those who source it

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${COOKIEFS_BUILD:-$ROOT/build}
PROGRAM=${0##*/}
export LC_ALL=C

# ---------------------------------------------------------------------------------- output ------

if [[ -t 1 && ${TERM:-dumb} != dumb && -z ${NO_COLOR:-} ]]; then
  IS_TTY=1
  BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' GREEN=$'\e[32m' YELLOW=$'\e[33m' CYAN=$'\e[36m'
  RESET=$'\e[0m' ERASE=$'\r\e[K'
else
  IS_TTY='' BOLD='' DIM='' RED='' GREEN='' YELLOW='' CYAN='' RESET='' ERASE=''
fi

heading() { printf '\n%s%s%s\n' "$BOLD$CYAN" "$*" "$RESET"; }
say() { printf '%s\n' "$*"; }
note() { printf '%s%s%s\n' "$DIM" "$*" "$RESET"; }
warn() { printf '%s%s: %s%s\n' "$YELLOW" "$PROGRAM" "$*" "$RESET" >&2; }
die() {
  printf '%s%s: %s%s\n' "$RED" "$PROGRAM" "$1" "$RESET" >&2
  exit "${2:-1}"
}
skipped() { printf '%sSKIPPED: %s%s\n' "$BOLD$YELLOW" "$*" "$RESET"; }

# A line that replaces itself on a terminal; elsewhere nothing.
transient() {
  [[ -z $IS_TTY ]] || printf '%s%s' "$ERASE" "${1:0:$((${COLUMNS:-80} - 1))}"
}
transient_done() { [[ -z $IS_TTY ]] || printf '%s' "$ERASE"; }

# 1234567 -> 1,234,567
grouped() { sed -E ':a; s/^([0-9]+)([0-9]{3})/\1,\2/; ta' <<<"$1"; }
mib() { awk -v b="$1" 'BEGIN { printf "%.1f MiB", b / 1048576 }'; }
now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }
seconds_of() { awk -v ms="$1" 'BEGIN { printf "%.1f s", ms / 1000 }'; }  # of milliseconds

# -------------------------------------------------------------------------------- clean-up ------

CLEANUPS=()
on_exit() { CLEANUPS+=("$1"); }

run_cleanups() {
  local status=$? i
  trap - EXIT
  trap '' INT TERM HUP
  set +e
  transient_done
  for ((i = ${#CLEANUPS[@]} - 1; i >= 0; i--)); do eval "${CLEANUPS[i]}"; done
  exit "$status"
}
trap run_cleanups EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

make_work_dir() {
  WORK=$(mktemp -d "${TMPDIR:-/tmp}/cookiefs.XXXXXXXX") || die "no temporary directory"
  # Last of all clean-ups: mounts lie in it.
  # shellcheck disable=SC2016
  CLEANUPS=('rm -rf --one-file-system "$WORK"' "${CLEANUPS[@]}")
}

# A zombie has ended: only its status is still to be fetched.
is_running() {
  local stat
  [[ -n $1 ]] && read -r stat 2>/dev/null <"/proc/$1/stat" && stat=${stat##*) } &&
    [[ ${stat%% *} != [ZX] ]]
}

# Waits at most SECONDS for a process to end. Returns 1 when it did not.
wait_for_end() {
  local pid=$1 deadline=$((SECONDS + $2))
  while is_running "$pid"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.02
  done
}

# Starts COMMAND... in a process group of its own, so that it can be ended with its children.
# Sets STARTED to its id.
start_group() {
  set -m
  "$@" </dev/null &
  STARTED=$!
  set +m
}

# Ends process groups by id: politely, then not.
end_groups() {
  local pid deadline
  for pid; do kill -TERM -- "-$pid" 2>/dev/null; done
  deadline=$((SECONDS + 5))
  for pid; do
    while kill -0 -- "-$pid" 2>/dev/null && is_running "$pid"; do
      ((SECONDS < deadline)) || break
      sleep 0.02
    done
    kill -KILL -- "-$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
  done
  return 0
}

# --------------------------------------------------------------------------------- packages -----

PACKAGES_BUILD=(g++ cmake ninja-build ccache pkg-config libfuse3-dev fuse3 libboost-dev libspdlog-dev
  libcli11-dev libncurses-dev nlohmann-json3-dev catch2 libbenchmark-dev libnfs-dev
  libmicrohttpd-dev)
PACKAGES_RUN=(attr coreutils findutils jq mawk mount openssh-client procps util-linux)
# Servers among them are started by the tests themselves, with configurations of their own.
PACKAGES_TEST=(clang clang-format clang-tidy dpkg-dev file git libclang-rt-14-dev lintian mandoc
  mmdebstrap nfs-ganesha nfs-ganesha-mem nfs-ganesha-vfs openssh-server openssh-sftp-server prometheus
  python3 rsync shellcheck spin sqlite3 tmux zsh)

as_root() {
  if [[ $(id -u) = 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "'$*' needs root: run as root, or install sudo"
  fi
}

missing_packages() {
  local package
  for package; do
    [[ $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) = *' ok installed' ]] ||
      printf '%s\n' "$package"
  done
}

# apt_get ARGS...: without questions, and waiting for others that install.
apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 "$@"
}

# Runs COMMAND... while services that packages bring are not started, nor at the next boot: a test
# server's package is no reason to open the machine to the network.
without_services() {
  local policy=/usr/sbin/policy-rc.d status=0 before unit
  before=$(enabled_services)
  if [[ -e $policy ]]; then
    "$@" || status=$?
  else
    as_root install -m 755 /dev/stdin "$policy" <<<$'#!/bin/sh\nexit 101'
    "$@" || status=$?
    as_root rm -f "$policy"
  fi
  for unit in $(enabled_services); do
    [[ $'\n'$before$'\n' = *$'\n'"$unit"$'\n'* ]] || as_root systemctl disable --now "$unit" 2>/dev/null
  done
  return "$status"
}
# Those of the servers that tests need.
enabled_services() {
  local unit
  command -v systemctl >/dev/null || return 0
  for unit in nfs-ganesha.service nfs-ganesha-lock.service prometheus.service rpcbind.service \
    rpcbind.socket ssh.service; do
    ! systemctl is-enabled --quiet "$unit" 2>/dev/null || echo "$unit"
  done
}

# Installs those of PACKAGE... that are missing; touches no network when none is.
install_packages() {
  local missing log
  command -v dpkg-query >/dev/null || {
    warn "not a Debian system: the packages are expected to be there: $*"
    return 0
  }
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  say "Installing ${missing[*]}"
  log=$(mktemp)
  if ! { apt_get update &&
    without_services apt_get install -y --no-install-recommends "${missing[@]}"; } \
    </dev/null >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    rm -f "$log"
    die "could not install: ${missing[*]}"
  fi
  rm -f "$log"
}

# FUSE needs its device; a line that says what to do where it is missing.
need_fuse() {
  [[ -e /dev/fuse ]] || as_root modprobe fuse 2>/dev/null
  [[ -e /dev/fuse ]] ||
    die "no /dev/fuse: load the kernel's module 'fuse' (a container: --device /dev/fuse --cap-add SYS_ADMIN)"
  [[ -r /dev/fuse && -w /dev/fuse ]] || die "/dev/fuse is not open to $(id -un): run as root"
}

# --------------------------------------------------------------------------------- building -----

# what_failed LOG: the lines that tell it, if they are known by their looks, and the log's tail.
what_failed() {
  local told
  told=$(grep -E -A5 ': FAILED:|^ *(not ok|FAILED) |: status [1-9]|\*\*\*(Failed|Timeout|Exception)|^(==[0-9]+==)?(ERROR|WARNING|SUMMARY): |: (fatal )?error: |runtime error: ' "$1" |
    grep -v '^--$' | head -n 25)
  if [[ -n $told ]]; then
    printf '%s\n...\n' "$told"
    tail -n 8 "$1"
  else
    tail -n 30 "$1"
  fi
}

# run_logged LABEL LOG COMMAND...: shows the label, on a terminal also the log's last line while
# it runs; then how long it took; on failure what failed. Returns the command's status.
run_logged() {
  local label=$1 log=$2 start status pid
  shift 2
  start=$(now_ms)
  start_group run_to_log "$log" "$@"
  pid=$STARTED
  RUNNING_GROUP=$pid
  while is_running "$pid"; do
    [[ -z $IS_TTY ]] || transient "  $label: $(tail -n 1 "$log" 2>/dev/null | tr -d '\r\033')"
    sleep 0.1
  done
  wait "$pid" && status=0 || status=$?
  RUNNING_GROUP=''
  transient_done
  if ((status == 0)); then
    printf '  %sok%s      %-62s %8s\n' "$GREEN" "$RESET" "$label" \
      "$(seconds_of $(($(now_ms) - start)))"
  elif ((status != 77)); then
    printf '  %sFAILED%s  %-62s %8s\n' "$BOLD$RED" "$RESET" "$label" \
      "$(seconds_of $(($(now_ms) - start)))"
    what_failed "$log" | sed 's/^/    | /'
    say "    the whole log: $log"
  fi
  return "$status"
}
run_to_log() {
  local log=$1
  shift
  "$@" >"$log" 2>&1
}
RUNNING_GROUP=''
# shellcheck disable=SC2016
on_exit '[[ -z $RUNNING_GROUP ]] || end_groups "$RUNNING_GROUP"'

# configure_and_build DIR [-DNAME=VALUE...] [--target TARGET...]
configure_and_build() {
  local dir=$1 generator=() launcher=()
  shift
  local definitions=()
  while [[ ${1:-} = -D* ]]; do
    definitions+=("$1")
    shift
  done
  # A tree that somebody configured keeps its generator.
  [[ -e $dir/CMakeCache.txt ]] || generator=(-G Ninja)
  ! command -v ccache >/dev/null || launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  # As precompiled headers need it (ccache's manual has the reasons).
  export CCACHE_SLOPPINESS=${CCACHE_SLOPPINESS:-pch_defines,time_macros}
  cmake -S "$ROOT" -B "$dir" "${generator[@]}" "${launcher[@]}" "${definitions[@]}" &&
    cmake --build "$dir" -j "$(nproc)" "$@"
}
