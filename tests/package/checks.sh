# shellcheck shell=bash
# check NAME COMMAND...: one line a check, with what the command said when it fails. To be sourced.
PASSED=0 FAILED=0

check() {
  local name=$1 why
  shift
  if why=$("$@" 2>&1); then
    echo "ok      $name"
    PASSED=$((PASSED + 1))
  else
    echo "FAILED  $name: $why"
    FAILED=$((FAILED + 1))
  fi
}
