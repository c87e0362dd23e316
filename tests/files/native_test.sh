#!/bin/bash
# fs_model and file_exerciser on native directories: they find nothing wrong there, and what is wrong
# they find.
#
#   native_test.sh BUILD_DIR
set -u
build=${1:?usage: native_test.sh BUILD_DIR}
work=$(mktemp -d /tmp/cookiefs_files.XXXXXX) || exit 1
other=$(mktemp -d /dev/shm/cookiefs_files.XXXXXX) || exit 1
trap 'rm -rf "$work" "$other"' EXIT
failed=0

expect() {  # STATUS COMMAND...
  local want=$1 status
  shift
  "$@"
  status=$?
  [ $status -eq "$want" ] || { echo "FAILED: status $status, not $want: $*"; failed=1; }
}

mkdir "$work/one" "$other/one" "$work/many" "$other/many"
expect 0 "$build/fs_model" --steps 6000 --direct --verbose "$work/one" "$other/one"
# This seed writes to a FIFO whose reader has gone.
mkdir "$work/pipe" "$other/pipe"
expect 0 "$build/fs_model" --seed 532 --steps 1500 --check-every 100000 "$work/pipe" "$other/pipe"
expect 0 "$build/fs_model" --steps 1500 --threads 4 --verbose "$work/many" "$other/many"
expect 0 "$build/fs_model" --compare "$work/one" "$other/one"
expect 0 "$build/file_exerciser" --direct --two --verbose "$work/file"
expect 0 "$build/file_exerciser" --base 8589934592 --steps 2000 "$other/file"

# A byte, a mode, a name, a time, a link: each alone is found.
mkdir "$work/t" "$other/t"
for side in "$work/t" "$other/t"; do
  printf abc >"$side/file"
  touch -d @500000000 "$side/file"
  touch -d @500000000 "$side"
done
expect 0 "$build/fs_model" --compare "$work/t" "$other/t"
touch -r "$work/t" "$work/t.time"
for wrong in "printf abd" "chmod 600" "touch -d @500000001" "ln"; do
  case $wrong in
    printf*) printf abd >"$work/t/file"; touch -d @500000000 "$work/t/file" ;;
    ln*) ln "$work/t/file" "$work/t.link" ;;
    *) $wrong "$work/t/file" ;;
  esac
  expect 1 "$build/fs_model" --compare "$work/t" "$other/t"
  rm -f "$work/t.link"
  printf abc >"$work/t/file"
  chmod 644 "$work/t/file"
  touch -d @500000000 "$work/t/file" "$work/t"
done
: >"$work/t/more"
touch -d @500000000 "$work/t"
expect 1 "$build/fs_model" --compare "$work/t" "$other/t"

# Somebody else writes.
expect 1 "$build/file_exerciser" --hook "printf x | dd of=$work/file bs=1 seek=77 conv=notrunc status=none" \
  --hook-every 20 --no-map "$work/file"
mkdir "$work/two" "$other/two"
expect 1 "$build/fs_model" --hook "find $work/two -type f -size +0 -exec truncate -s 0 {} +" "$work/two" "$other/two"
exit $failed
