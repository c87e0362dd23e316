#!/bin/bash
# What people run, on writable mounts: git, rsync, tar, SQLite by two processes, CMake and Ninja, and
# rm -r; of a local directory, over SFTP and over NFS, with the usual cache and with one that is far
# too small.
#
#   apps_test.sh BUILD_DIR
#
# COOKIEFS_STRESS_QUICK: not empty: fewer files, no small caches.
# shellcheck disable=SC2015,SC2030,SC2031  # 'a && b || fail'; each check is a process of its own
# shellcheck source=tests/mount/cli_frame.sh
source "$(dirname "${BASH_SOURCE[0]}")/cli_frame.sh"

build=$(cd "$1" && pwd)
quick=${COOKIEFS_STRESS_QUICK:-}
files=$([ -n "$quick" ] && echo 60 || echo 240)
source='' remote='' options='' # of the mount under test
native=$work/native            # the same, made without any mount
export HOME=$work GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0
export GIT_AUTHOR_NAME=Test GIT_AUTHOR_EMAIL=test@example.invalid
export GIT_COMMITTER_NAME=Test GIT_COMMITTER_EMAIL=test@example.invalid

# ---- What there is to write ---------------------------------------------------------------------

make_tree() {  # DIRECTORY: files of many sizes, links, modes and times
  local i directory
  for ((i = 0; i < files; i++)); do
    directory=$1/d$((i % 12))/sub$((i % 3))
    mkdir -p "$directory"
    head -c $((i * i * 7 % 70000)) /dev/urandom >"$directory/file $i"
    chmod $((600 + i % 5 * 11)) "$directory/file $i" 2>/dev/null || chmod 644 "$directory/file $i"
    touch -d "@$((1000000000 + i))" "$directory/file $i"
  done
  : >"$1/empty"
  ln -s "d1/sub1" "$1/link"
  ln -s nowhere "$1/dangling"
  head -c 3000000 /dev/urandom >"$1/large"
  touch -d @1050000000 "$1/empty" "$1/large" # whole seconds, as SFTP and tar have them
  find "$1" -type d -exec touch -d @1100000000 {} +
}

# The same names, types, modes, sizes, times and bytes.
same_trees() {
  local difference
  difference=$(rsync -rlptnJ --checksum --delete --itemize-changes "$1/" "$2/" 2>&1) &&
    [ -z "$difference" ] || { echo "$1 and $2 differ: $(head -n 5 <<<"$difference")"; return 1; }
}

# run_in DIRECTORY COMMAND...: quiet, unless it fails.
run_in() {
  local directory=$1 status
  shift
  (cd "$directory" && timeout 200 "$@") >"$out" 2>&1
  status=$?
  [ $status -eq 0 ] || { echo "$*: status $status: $(tail -n 5 "$out")"; return 1; }
}

mount_it() { start -o "$options" "$source" "$mnt"; }
# Ends the mount and begins another: what follows sees what the remote has.
mount_again() { ends umount "$mnt" && mount_it; }

# ---- What people run ----------------------------------------------------------------------------

use_git() {
  local repository=$mnt/repository
  mount_it && mkdir "$repository" && cp -r "$native/d1" "$native/d2" "$native/large" "$repository" &&
    run_in "$repository" git init -q -b main . && run_in "$repository" git add . &&
    run_in "$repository" git commit -qm one && run_in "$repository" git checkout -qb other &&
    run_in "$repository" git rm -qr d2 && echo more >>"$repository/large" &&
    run_in "$repository" git commit -qam two && run_in "$repository" git checkout -q main || return 1
  [ -d "$repository/d2" ] || { echo "checkout did not bring d2 back"; return 1; }
  cmp "$native/large" "$repository/large" || return 1
  run_in "$repository" git merge -q other && run_in "$repository" git gc -q &&
    run_in "$repository" git fsck --strict &&
    run_in "$mnt" git clone -q --no-hardlinks repository clone &&
    run_in "$mnt/clone" git fsck --strict && mount_again &&
    run_in "$repository" git fsck --strict || return 1
  for repository in "$mnt/repository" "$mnt/clone"; do
    run_in "$repository" git status --porcelain || return 1
    [ ! -s "$out" ] || { echo "status: $(head -n 5 "$out")"; return 1; }
  done
}

use_rsync() {
  mount_it && run_in / rsync -aJ "$native/" "$mnt/in/" && same_trees "$native" "$mnt/in" || return 1
  run_in / rsync -aJ --itemize-changes "$native/" "$mnt/in/" || return 1
  [ ! -s "$out" ] || { echo "a second rsync did something: $(head -n 3 "$out")"; return 1; }
  mount_again && same_trees "$native" "$mnt/in" && run_in / rsync -aJ "$mnt/in/" "$work/back/" &&
    same_trees "$native" "$work/back" && same_trees "$native" "$remote/in"
}

use_tar() {
  mount_it && run_in / tar -C "$native" -cf "$mnt/tree.tar" . && mkdir "$mnt/out" &&
    run_in / tar -C "$mnt/out" -xpf "$mnt/tree.tar" && same_trees "$native" "$mnt/out" &&
    run_in / tar -C "$native" -df "$mnt/tree.tar" && mount_again &&
    run_in / tar -C "$mnt/out" -df "$mnt/tree.tar" && same_trees "$native" "$remote/out"
}

# insert DATABASE WHO: rows, a transaction each.
insert() {
  local i
  for ((i = 0; i < rows; i++)); do
    echo "INSERT INTO t VALUES ('$2', $i, randomblob(900));"
  done | sqlite3 -batch -cmd '.timeout 60000' "$1"
}
rows=$([ -n "$quick" ] && echo 15 || echo 40)
use_sqlite() {  # JOURNAL MODE
  local database=$mnt/$1 first
  mount_it && run_in / sqlite3 "$database" \
    "PRAGMA journal_mode=$1; CREATE TABLE t (who, i, data); CREATE INDEX k ON t (i, data);" || return 1
  grep -qi "^$1\$" "$out" || { echo "journal mode: $(cat "$out")"; return 1; }
  insert "$database" one >"$work/one" 2>&1 &
  first=$!
  insert "$database" two >"$work/two" 2>&1 || { wait $first; cat "$work/two"; return 1; }
  wait $first || { cat "$work/one"; return 1; }
  mount_again && run_in / sqlite3 "$database" 'PRAGMA integrity_check; SELECT count(*) FROM t;' ||
    return 1
  [ "$(tr '\n' ' ' <"$out")" = "ok $((2 * rows)) " ] || { cat "$out"; return 1; }
}

make_project() {
  mkdir -p "$1"
  local i
  for i in 1 2 3 4; do echo "int part$i(void) { return $i; }" >"$1/part$i.c"; done
  cat >"$1/main.c" <<'END'
int part1(void); int part2(void); int part3(void); int part4(void);
int main(void) { return part1() + part2() + part3() + part4() == 10 ? 0 : 1; }
END
  cat >"$1/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.20)
project(small C)
add_library(parts STATIC part1.c part2.c part3.c part4.c)
add_executable(small main.c)
target_link_libraries(small parts)
END
}
use_cmake() {
  mount_it && make_project "$mnt/project" &&
    run_in "$mnt/project" cmake -G Ninja -S . -B build &&
    run_in "$mnt/project" cmake --build build -j 2 && run_in "$mnt/project" build/small &&
    mount_again && run_in "$mnt/project" build/small && run_in "$mnt/project" ninja -C build || return 1
  grep -q 'no work to do' "$out" || { echo "built again: $(cat "$out")"; return 1; }
  echo 'int part5(void) { return 5; }' >>"$mnt/project/part2.c"
  run_in "$mnt/project" ninja -C build -v && run_in "$mnt/project" build/small
}

remove_all() {
  mount_it && cp -a "$native" "$mnt/copy" && same_trees "$native" "$mnt/copy" &&
    find "$mnt" -mindepth 1 -maxdepth 1 -exec rm -r {} + || { echo "rm: status $?"; return 1; }
  [ -z "$(ls -A "$mnt")" ] || { echo "still there: $(ls -A "$mnt")"; return 1; }
  ends umount "$mnt" || return 1
  [ -z "$(ls -A "$remote")" ] || { echo "still on the remote: $(ls -A "$remote")"; return 1; }
}

# ---- Where ---------------------------------------------------------------------------------------

# need NAME PROGRAM... -- COMMAND...: a check, where these are installed.
need() {
  local name=$1 missing=()
  shift
  while [ "$1" != -- ]; do
    command -v "$1" >/dev/null || missing+=("$1")
    shift
  done
  shift
  if [ ${#missing[@]} -gt 0 ]; then
    skip "$name" "SKIPPED: not installed: ${missing[*]}"
  else
    check "$name" "$@"
  fi
}

all_of() {  # NAME
  need "$1: git" git rsync -- use_git
  need "$1: rsync" rsync -- use_rsync
  need "$1: tar" tar rsync -- use_tar
  need "$1: SQLite, a journal that is deleted" sqlite3 -- use_sqlite delete
  need "$1: SQLite, a write-ahead log" sqlite3 -- use_sqlite wal
  need "$1: CMake and Ninja" cmake ninja cc -- use_cmake
  need "$1: everything is removed" rsync -- remove_all
}

server=''
stop_server() {
  [ -z "$server" ] || { kill "$server"; wait "$server"; } 2>/dev/null
  server=''
  [ -z "$exported" ] || rm -rf --one-file-system "$exported"
}
exported=''
trap 'stop_server; finish' EXIT

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
serves() { grep -q 'NFS SERVER INITIALIZED' "$work/ganesha.log" 2>/dev/null; }
# start_nfs: sets `source` up to its version, or says why not.
start_nfs() {
  local port mount_port
  [ "$(id -u)" = 0 ] || { echo "only root can start nfs-ganesha"; return 1; }
  command -v ganesha.nfsd >/dev/null || { echo "not installed: nfs-ganesha"; return 1; }
  [ -e "$build/librpcbind_shim.so" ] || { echo "built without NFS"; return 1; }
  exported=$(mktemp -d /dev/shm/cookiefs_apps.XXXXXX) && mkdir "$work/recovery" || return 1
  port=$(free_port) mount_port=$(free_port)
  cat >"$work/ganesha.conf" <<END
NFS_CORE_PARAM { Bind_addr=127.0.0.1; NFS_Port=$port; MNT_Port=$mount_port; Protocols=3,4;
  Enable_NLM=false; Enable_RQUOTA=false; Enable_UDP=false; mount_path_pseudo=true; Clustered=false; }
NFSv4 { Graceless=true; Lease_Lifetime=10; Grace_Period=10; RecoveryBackend=fs;
  RecoveryRoot="$work/recovery"; Minor_Versions=0,1,2; Only_Numeric_Owners=true; }
EXPORT_DEFAULTS { Attr_Expiration_Time=0; Access_Type=RW; Squash=no_root_squash; SecType=sys;
  Protocols=3,4; Transports=TCP; }
EXPORT { Export_Id=1; Path=$exported; Pseudo=/apps; Filesystem_Id=1.1; FSAL { Name=VFS; } }
LOG { Default_Log_Level=EVENT; }
END
  # The server's own arguments hold none of ours: a check ends what has our directory in its own.
  (cd "$work" && exec env LD_PRELOAD="$build/librpcbind_shim.so" ASAN_OPTIONS= ganesha.nfsd -F \
    -f ganesha.conf -p ganesha.pid -L ganesha.log -N NIV_EVENT) >"$work/ganesha.err" 2>&1 &
  server=$!
  until_true serves || { echo "nfs-ganesha does not start: $(tail -n 3 "$work/ganesha.log")"; return 1; }
  source="nfs://127.0.0.1/apps?nfsport=$port&mountport=$mount_port&version="
}

on_remote() {  # NAME OPTIONS: every check, in a directory that is empty at first
  options=$2
  rm -rf "${remote:?}"/* && all_of "$1, ${2##*\',}"
}

mkdir "$native"
make_tree "$native"
plain='cache_size=64M'
small='cache_size=2M'

remote=$work/local source=$work/local
mkdir "$remote"
on_remote local $plain
[ -n "$quick" ] || on_remote local $small,writeback_cache

sftp_server=/usr/lib/openssh/sftp-server
if [ -x $sftp_server ]; then
  # Without ssh; what ssh would be told goes to the shell's own parameters.
  ssh="ssh_command=sh -c 'exec $sftp_server'"
  remote=$work/sftp source=sftp://here$work/sftp
  mkdir "$remote"
  on_remote sftp "$ssh,$plain"
  [ -n "$quick" ] || on_remote sftp "$ssh,$small"
else
  skip sftp "SKIPPED: not installed: openssh-sftp-server"
fi

if start_nfs >"$work/why"; then
  remote=$exported nfs=$source
  source=${nfs}3
  on_remote 'nfs, version 3' $plain
  source=${nfs}4
  [ -z "$quick" ] || small=$plain
  on_remote 'nfs, version 4' $small
else
  skip nfs "SKIPPED: $(cat "$work/why")"
fi
tell
