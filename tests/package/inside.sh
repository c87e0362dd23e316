#!/usr/bin/env bash
# What a user does with the installed package; runs as root inside the clean system that
# package_test.sh has made, with a process and a mount namespace of its own.
#
#   inside.sh DIRECTORY (of this script, in there)    writes 'PASSED FAILED' to DIRECTORY/count
set -uo pipefail
export LC_ALL=C.UTF-8
HERE=$1
# shellcheck source=tests/package/checks.sh
source "$HERE/checks.sh"

# What systemd-tmpfiles makes at boot.
[[ -e /etc/mtab ]] || ln -s ../proc/self/mounts /etc/mtab

# ---- mount(8) -------------------------------------------------------------------------------------

# Each step says what is wrong.
names_in() {
  local count
  # shellcheck disable=SC2012  # ls is what is tested, on names that we know
  count=$(ls -f "$1" | wc -l)
  ((count == $2)) || { echo "$count names in $1, not $2"; return 1; }
}
is_mounted() { findmnt -n -t fuse.cookiefs -M "$1" >/dev/null; }
unmounts() {
  umount "$1" || return 1
  ! is_mounted "$1" || { echo 'still mounted'; return 1; }
}
OPTIONS_OF_FSTAB=ro,_netdev,nofail,allow_other,ttl=5s
write_fstab() { echo "sim:big=1000 /mnt cookiefs $1 0 0" >/etc/fstab; }

by_hand() { mount -t cookiefs sim:big=1000 /mnt && names_in /mnt/big 1002 && unmounts /mnt; }
by_fstab() {
  write_fstab "$OPTIONS_OF_FSTAB"
  mount /mnt && names_in /mnt/big 1002 || return 1
  findmnt -n -o OPTIONS /mnt | grep '^ro,.*allow_other' >/dev/null || { findmnt /mnt; return 1; }
  # Others may look, which is what allow_other is for.
  setpriv --reuid=65534 --regid=65534 --clear-groups ls /mnt/big >/dev/null && unmounts /mnt
}
all_of_fstab() {
  write_fstab "defaults,$OPTIONS_OF_FSTAB,x-systemd.automount,comment=any"
  mount -a && mount -a && names_in /mnt/big 1002 || return 1
  [ "$(findmnt -n -t fuse.cookiefs | wc -l)" = 1 ] || { findmnt; return 1; }
  unmounts /mnt
}
many_options() {
  mount -t cookiefs -o rw,nodev,nosuid,noexec,noatime,noauto,user,cache_size=8M sim:big=1000 /mnt &&
    names_in /mnt/big 1002 && unmounts /mnt
}
by_user() {
  write_fstab noauto,user,ttl=5s
  echo 'user:x:1234:1234::/home/user:/bin/sh' >>/etc/passwd
  install -d -o 1234 /home/user && sed -i 's#/mnt#/home/user#' /etc/fstab
  setpriv --reuid=1234 --regid=1234 --clear-groups bash -c '
    mount /home/user && ls -f /home/user/big | wc -l && fusermount3 -u /home/user' >/tmp/said ||
    return 1
  [ "$(cat /tmp/said)" = 1002 ] || { cat /tmp/said; return 1; }
}
with_subtype() { mount -t fuse.cookiefs sim:big=1000 /mnt && names_in /mnt/big 1002 && unmounts /mnt; }
fake() { mount -f -t cookiefs sim:big=1000 /mnt && ! is_mounted /mnt; }
sloppy() {
  ! mount -t cookiefs -o elephant sim:big=1000 /mnt 2>/dev/null || { echo 'not refused'; return 1; }
  mount -s -t cookiefs -o elephant sim:big=1000 /mnt && unmounts /mnt
}
tells() { # STATUS PATTERN ARGUMENTS...
  local want=$1 pattern=$2 said status
  shift 2
  said=$(mount -t cookiefs "$@" 2>&1)
  status=$?
  [[ $status = "$want" && $said =~ $pattern ]] || { echo "$status: $said"; return 1; }
}
in_namespace() {
  local other deadline=$((SECONDS + 20))
  unshare --mount sleep 60 >/dev/null 2>&1 &
  other=$!
  while [[ $(readlink "/proc/$other/ns/mnt") = "$(readlink /proc/self/ns/mnt)" ]]; do
    ((SECONDS < deadline)) || { echo 'no namespace'; return 1; }
    sleep 0.02
  done
  mount -N "$other" -t cookiefs sim:big=1000 /mnt || return 1
  ! is_mounted /mnt || { echo 'mounted here'; return 1; }
  nsenter -t "$other" -m ls -f /mnt/big | wc -l | grep -x 1002 >/dev/null || { echo 'not there'; return 1; }
  nsenter -t "$other" -m umount /mnt
  kill "$other"
}
control() {
  mount -t cookiefs sim:big=1000 /mnt && names_in /mnt/big 1002 &&
    cookiefsctl stats /mnt | grep '^readdir' >/dev/null && unmounts /mnt
}

check 'mount -t cookiefs SOURCE DIR' by_hand
check 'a line of fstab: mount DIR' by_fstab
check 'mount -a, twice' all_of_fstab
check 'options of mount(8)' many_options
check 'a line of fstab, by a user' by_user
check 'mount -t fuse.cookiefs' with_subtype
check 'mount -f mounts nothing' fake
check 'mount -s skips unknown options' sloppy
check 'mount tells of a wrong option' tells 2 'did you mean cache_size=' -o cachesize=1M sim:big=1 /mnt
check 'mount tells of a wrong source' tells 1 bogus sim:bogus=1 /mnt
check 'mount -N mounts in another namespace' in_namespace
check 'cookiefsctl stats' control

# ---- The unit -------------------------------------------------------------------------------------

# As systemd would run it, so far as that is to be had without systemd: with its arguments and
# capabilities.
UNIT=/usr/lib/systemd/system/cookiefs@.service
as_service() {
  local capabilities command
  capabilities=$(sed -n 's/^CapabilityBoundingSet=//p' $UNIT | tr '[:upper:]' '[:lower:]' |
    sed 's/cap_/+/g; s/ /,/g')
  command=$(sed -n 's/^ExecStart=//p' $UNIT | sed "s#%f#'/srv/a b'#; s/\${\([A-Z]*\)}/\"\$\1\"/g")
  (
    OPTIONS=''
    # shellcheck source=/dev/null
    source /usr/share/doc/cookiefs/examples/example.conf
    export OPTIONS SOURCE
    mkdir -p '/srv/a b'
    setpriv --no-new-privs --bounding-set="-all,$capabilities" sh -c "$command"
  ) || return 1
  names_in '/srv/a b/big' 1002 && unmounts '/srv/a b'
}
check 'the command of the unit, with its capabilities' as_service

# ---- The manual -----------------------------------------------------------------------------------

renders() { # SECTION NAME
  local said
  said=$(MANWIDTH=80 man --warnings=w "$1" "$2" 2>&1 >/tmp/page)
  [[ -z $said ]] || { echo "$said"; return 1; }
  grep '^NAME' /tmp/page >/dev/null || { echo "no page: $(head -3 /tmp/page)"; return 1; }
}
for page in '8 cookiefs' '1 cookiefsctl' '8 mount.cookiefs'; do
  # shellcheck disable=SC2086
  check "man $page" renders $page
done

# Names of all options and keys, as the programs themselves tell them.
known_options() {
  cookiefs --help | sed -nE '/^mount options of cookiefs/,/^$/s/^    ([a-z_]+)=.*/\1/p'
  cookiefs -o elephant nfs://h/e /mnt 2>&1 | known_words
  cookiefs -o elephant sftp://h/e /mnt 2>&1 | known_words
}
known_words() { sed -E 's/.*source knows //; s/; `cookiefs.*//; s/, /\n/g' | sed 's/=.*//'; }
known_keys() { cookiefs sim:elephant=1 /mnt 2>&1 | sed -E 's/.*known keys: //; s/, /\n/g'; }
commands() { cookiefsctl --help | sed -nE '/^Subcommands:/,$s/^  ([a-z-]+) .*/\1/p'; }
# Lines of a command and one of its long flags.
flags_of_commands() {
  local command
  for command in $(commands); do
    cookiefsctl "$command" --help | sed -nE "s/^  (-.,)?(--[a-z-]+).*/$command \\2/p" |
      grep -v -e --help
  done
}

# manual_has NAME WORDS: each of the words from stdin is on the page.
manual_has() {
  local word missing='' count=0
  MANWIDTH=80 man 8 "$1" 2>/dev/null | sed 's/.\x08//g' >/tmp/page ||
    MANWIDTH=80 man "$1" | sed 's/.\x08//g' >/tmp/page
  while read -r word; do
    count=$((count + 1))
    grep -E "(^|[^A-Za-z_])$word([^A-Za-z_]|\$)" /tmp/page >/dev/null || missing+=" $word"
  done
  ((count >= 3)) || { echo "only $count words are known"; return 1; }
  [[ -z $missing ]] || { echo "not in it:$missing"; return 1; }
}
check 'cookiefs(8) has every option' manual_has cookiefs < <(known_options)
check 'cookiefs(8) has every key of sim:' manual_has cookiefs < <(known_keys)
check 'cookiefsctl(1) has every command' manual_has cookiefsctl < <(commands)
check 'and every flag of theirs' manual_has cookiefsctl < <(flags_of_commands | cut -d' ' -f2)

# named_files PAGE: what the page names below /usr/share/doc is installed.
named_files() {
  local file count=0
  MANWIDTH=80 man 8 "$1" 2>/dev/null | sed 's/.\x08//g' >/tmp/page
  while read -r file; do
    count=$((count + 1))
    [[ -s $file ]] || { echo "no $file"; return 1; }
  done < <(grep -o '/usr/share/doc/cookiefs/[a-z./]*[a-z]' /tmp/page | sort -u)
  ((count >= 3)) || { echo "only $count files are named"; return 1; }
}
check 'the files that cookiefs(8) names are there' named_files cookiefs

# ---- Completions ----------------------------------------------------------------------------------

# What bash puts in place of the text behind the last word break.
# shellcheck disable=SC2016
bash_candidates() {
  bash --norc -c '
    source /usr/share/bash-completion/bash_completion
    _completion_loader "${1%% *}"
    COMP_LINE=$1 COMP_POINT=${#1}
    read -ra COMP_WORDS <<<"$1"
    [[ $1 != *" " ]] || COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    function_of=$(complete -p "${1%% *}") && function_of=${function_of#*-F }
    "${function_of%% *}"
    printf "%s\n" "${COMPREPLY[@]}"' - "$1"
}
zsh_candidates() { timeout 20 zsh "$HERE/zsh_candidates" "$1"; }

offers() { # SHELL LINE CANDIDATE...
  local shell=$1 line=$2 got want
  shift 2
  got=$("${shell}_candidates" "$line")
  for want; do
    grep -Fx -e "$want" <<<"$got" >/dev/null || { echo "'$want' is not in: ${got//$'\n'/ }"; return 1; }
  done
}
offers_none() { # SHELL LINE CANDIDATE
  local got
  got=$("${1}_candidates" "$2")
  ! grep -Fx -e "$3" <<<"$got" || { echo "offers $3"; return 1; }
}
# offers_all LINE: bash offers all words from stdin, whether they take a value or not.
offers_all() {
  local got word missing=''
  got=$(bash_candidates "$1")
  while read -r word; do
    grep -x -e "$word=\?" <<<"$got" >/dev/null || missing+=" $word"
  done
  [[ -z $missing ]] || { echo "not offered:$missing"; return 1; }
}
zsh_offers_all() {
  local got word missing=''
  got=$(zsh_candidates "$1")
  while read -r word; do
    grep -x -e "$word=\?" <<<"$got" >/dev/null || missing+=" $word"
  done
  [[ -z $missing ]] || { echo "not offered:$missing; only: ${got//$'\n'/ }"; return 1; }
}

check 'bash: flags' offers bash 'cookiefs -' -o -f --help
check 'bash: schemes' offers bash 'cookiefs s' sftp:// sim:
# Of every command of cookiefsctl.
offers_flags() { # SHELL
  local command flag count=0
  while read -r command flag; do
    count=$((count + 1))
    offers "$1" "cookiefsctl $command --" "$flag" || return 1
  done < <(flags_of_commands)
  ((count >= 10)) || { echo "only $count flags are known"; return 1; }
}

check 'bash: all options' offers_all 'cookiefs -o ' < <(known_options)
check 'bash: all keys of sim:' offers_all 'cookiefs sim:' < <(known_keys)
check 'bash: the second key of sim:' offers bash 'cookiefs sim:big=10,rt' '10,rtt='
check 'bash: a value' offers bash 'cookiefs -o ttl=0,readdirplus=a' auto
check 'bash: options of the source' offers bash 'cookiefs nfs://h/e /mnt -o nc' nconnect=
check 'bash: no options of another' offers_none bash 'cookiefs sftp://h/e /mnt -o nc' nconnect=
check 'bash: mount points' offers bash 'cookiefs sim:big=1 /us' /usr
check 'bash: all commands' offers_all 'cookiefsctl ' < <(commands)
check 'bash: flags of all commands' offers_flags bash
check 'bash: a level' offers bash 'cookiefsctl log-level /mnt de' debug
check 'bash: a file to be written' offers bash 'cookiefsctl map --svg /us' /usr
check 'zsh: flags' offers zsh 'cookiefs -' -o -f --help
check 'zsh: schemes' offers zsh 'cookiefs s' sftp:// sim:
check 'zsh: all options of nfs' zsh_offers_all 'cookiefs nfs://h/e /mnt -o ' < <(
  known_options | grep -v '^[A-Z]\|^ssh\|^sftp\|^compr')
check 'zsh: all options of sftp' zsh_offers_all 'cookiefs sftp://h/e /mnt -o ' < <(
  cookiefs -o elephant sftp://h/e /mnt 2>&1 | known_words)
check 'zsh: all keys of sim:' zsh_offers_all 'cookiefs sim:' < <(known_keys)
check 'zsh: the second key of sim:' offers zsh 'cookiefs sim:big=10,rt' rtt
check 'zsh: all commands' zsh_offers_all 'cookiefsctl ' < <(commands)
check 'zsh: flags of all commands' offers_flags zsh
check 'zsh: directories of a mount' offers zsh 'cookiefsctl dir /us' usr
check 'zsh: a level' offers zsh 'cookiefsctl log-level /mnt de' debug

mounted_offer() {
  mkdir -p /srv/other && mount -t cookiefs sim:big=1 /srv/other || return 1
  offers bash 'cookiefsctl stats ' /srv/other && offers bash 'cookiefsctl drop /srv/o' /srv/other &&
    offers zsh 'cookiefsctl drop ' /srv/other && unmounts /srv/other
}
check 'bash and zsh: where cookiefs is mounted' mounted_offer

# ---- Removal --------------------------------------------------------------------------------------

removed() {
  apt-get remove -qq -y cookiefs >/dev/null 2>&1 || return 1
  local left
  left=$(find / -xdev -path /proc -prune -o -path /dev -prune -o -path "$HERE" -prune -o \
    -name '*cookiefs*' -print | grep -v '^/var/\|\.deb$')
  [[ -z $left ]] || { echo "left: $left"; return 1; }
}
check 'nothing is left after removal' removed

echo "$PASSED $FAILED" >"$HERE/count"
((FAILED == 0))
