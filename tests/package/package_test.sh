#!/usr/bin/env bash
# The Debian packages as their users meet them: made, checked by lintian, installed in a clean Debian
# of this machine's release, used in there; and the library, by a program built against it.
#
#   package_test.sh BUILD_DIR
#
# The clean system is kept as a tarball, with the packages that were fetched for it, in
# BUILD_DIR/package-test: a repeated run fetches nothing. It is unpacked anew each time, and entered
# in namespaces of its own: whatever is mounted or started in there ends with them.
# Exit status: 0, 1 failure, 2 usage, 77: skipped. COOKIEFS_PACKAGE_COUNT: a file for
# 'PASSED FAILED SKIPPED'.
set -uo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tools/common.sh
source "$HERE/../../tools/common.sh"
# shellcheck source=tests/package/checks.sh
source "$HERE/checks.sh"

[[ $# = 1 && -e $1/CPackConfig.cmake && -x $1/cookiefs ]] ||
  die "usage: $0 BUILD_DIR (with everything built in it)" 2
BUILD=$(cd "$1" && pwd)
CACHE=$BUILD/package-test
KEPT_DAYS=30 # of the clean system
NOT_DONE=0

skip_check() {
  skipped "$1: $2"
  NOT_DONE=$((NOT_DONE + 1))
}

# Ends the test as skipped, with what was checked so far.
skip_rest() {
  NOT_DONE=$((NOT_DONE + 1))
  skipped "$*"
  give_count
  ((FAILED == 0)) || exit 1
  echo "SKIPPED: $*"
  exit 77
}
give_count() {
  [[ -z ${COOKIEFS_PACKAGE_COUNT:-} ]] || echo "$PASSED $FAILED $NOT_DONE" >"$COOKIEFS_PACKAGE_COUNT"
}

make_work_dir
mkdir -p "$CACHE"

# ---- The packages ---------------------------------------------------------------------------------

make_packages() {
  (cd "$WORK" && cpack -G DEB --config "$BUILD/CPackConfig.cmake" -B "$WORK/packages") >"$WORK/cpack.log" 2>&1 ||
    { cat "$WORK/cpack.log"; return 1; }
}
one_package() { # NAME
  local found=("$WORK/packages/$1"_*.deb)
  [[ ${#found[@]} = 1 && -e ${found[0]} ]] && echo "${found[0]}"
}
field_has() { # FILE FIELD PATTERN
  local value
  value=$(dpkg-deb -f "$1" "$2")
  grep -E -e "$3" <<<"$value" >/dev/null || { echo "$2: $value"; return 1; }
}
# Errors fail; what it warns of is shown.
passes_lintian() {
  lintian --no-cfg --allow-root --fail-on error "$1" >"$WORK/lintian.log" 2>&1
  local status=$?
  ((status == 0)) || cat "$WORK/lintian.log"
  return "$status"
}
same_version() {
  local version
  version=$(zcat "$WORK/tree/usr/share/doc/cookiefs/changelog.gz" | sed -nE '1s/.*\((.*)\).*/\1/p')
  [[ $version = "$(dpkg-deb -f "$DEB" Version)" ]] || { echo "the changelog is of $version"; return 1; }
}

check 'cpack -G DEB' make_packages
DEB=$(one_package cookiefs) || die 'no package cookiefs was made'
DEV_DEB=$(one_package libcookiefs-cache-dev) || die 'no package libcookiefs-cache-dev was made'
for package in "$DEB" "$DEV_DEB"; do
  dpkg-deb -x "$package" "$WORK/tree" || die "$package can't be unpacked"
done
check 'it depends on fuse3' field_has "$DEB" Depends '(^|, )fuse3'
for library in libfuse3-3 libmicrohttpd libncursesw libnfs; do
  check "and on $library, which it is linked with" field_has "$DEB" Depends "(^|, )$library"
done
check 'it recommends ssh' field_has "$DEB" Recommends openssh-client
check 'the changelog is of this version' same_version
for package in "$DEB" "$DEV_DEB"; do
  check "lintian ${package##*/}" passes_lintian "$package"
  grep '^W:' "$WORK/lintian.log" || true
done

# ---- The manual, the unit -------------------------------------------------------------------------

lint_manual() {
  local said
  said=$(mandoc -T lint -W warning "$1" 2>&1)
  [[ -z $said ]] || { echo "$said"; return 1; }
}
for page in "$ROOT"/tools/man/*.[1-8]; do check "mandoc ${page##*/}" lint_manual "$page"; done

# Its command has to be there for systemd-analyze, which looks below --root.
verify_unit() {
  local said root=$WORK/unit
  mkdir -p "$root/etc/cookiefs" "$root/usr/bin" "$root/lib/systemd"
  cp -a "$WORK/tree/usr" "$root/" && cp -a /lib/systemd/system "$root/lib/systemd/" &&
    cp /usr/bin/umount /usr/bin/mkdir "$root/usr/bin/"
  cp "$ROOT/tools/package/example.conf" "$root/etc/cookiefs/srv-data.conf"
  cp "$root/usr/lib/systemd/system/cookiefs@.service" "$root/lib/systemd/system/"
  said=$(systemd-analyze verify --man=no --root="$root" cookiefs@srv-data.service 2>&1)
  local status=$?
  said=$(grep cookiefs <<<"$said")
  [[ $status = 0 && -z $said ]] || { echo "$said"; return 1; }
}
if command -v systemd-analyze >/dev/null; then
  check 'systemd-analyze verify' verify_unit
else
  skip_check 'systemd-analyze verify' 'no systemd-analyze here'
fi

# ---- The library ----------------------------------------------------------------------------------

runs_example() {
  local said
  said=$("$1") || return 1
  [[ $said = '1: 100000 names, '*$'\n2: 100000 names, '* ]] || { echo "$said"; return 1; }
  # The second listing costs no request.
  [[ $(cut -d, -f2 <<<"$said" | sort -u | wc -l) = 1 ]] || { echo "$said"; return 1; }
}
example_by_cmake() {
  cmake -S "$HERE/example" -B "$WORK/example" -DCMAKE_PREFIX_PATH="$WORK/tree/usr" &&
    cmake --build "$WORK/example" && runs_example "$WORK/example/cache_example"
}
example_by_pkg_config() {
  local flags
  # Not the copies of this tree: what is installed has to do.
  flags=$(PKG_CONFIG_PATH=$WORK/tree/usr/lib/pkgconfig PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 \
    PKG_CONFIG_ALLOW_SYSTEM_LIBS=1 pkg-config --cflags --libs cookiefs-cache) || return 1
  # shellcheck disable=SC2086
  (cd "$WORK" && g++ -std=c++20 -o by_pkg_config "$HERE/example/cache_example.cc" $flags) &&
    runs_example "$WORK/by_pkg_config"
}
check 'the example, by find_package' example_by_cmake
check 'the example, by pkg-config' example_by_pkg_config

# ---- A clean system -------------------------------------------------------------------------------

[[ $(id -u) = 0 ]] || skip_rest 'the packages were not installed anywhere: that needs root'
command -v mmdebstrap >/dev/null || skip_rest 'the packages were not installed anywhere: no mmdebstrap'
unshare --mount --pid --fork true 2>/dev/null || skip_rest 'no namespaces here'
need_fuse
# shellcheck source=/dev/null
CODENAME=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
# What this machine itself is installed from, and is known to reach.
# shellcheck disable=SC2016
SOURCES=$(apt-get indextargets --format '$(ORIGIN) deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
  'Created-By: Packages' | sed -n 's/^Debian deb /deb /p' | grep -F " $CODENAME" | sort -u)
[[ -n $CODENAME && -n $SOURCES ]] || skip_rest "apt has no lists of Debian's here: apt-get update"

INCLUDED=man-db,zsh,bash-completion,mount,findutils
KEY=$(sha256sum <<<"$SOURCES $INCLUDED $(dpkg --print-architecture)" | cut -c1-16)
TARBALL=$CACHE/$CODENAME-$KEY.tar
find "$CACHE" -name '*.tar' -mtime "+$KEPT_DAYS" -delete
if [[ ! -s $TARBALL ]]; then
  say "making a clean $CODENAME"
  # Its package lists stay in it. Its manual pages too, which dpkg can leave out.
  if ! timeout 400 mmdebstrap --variant=minbase --include="$INCLUDED" --skip=cleanup/apt/lists \
    "$CODENAME" "$WORK/new.tar" - <<<"$SOURCES" >"$WORK/mmdebstrap.log" 2>&1; then
    tail -n 5 "$WORK/mmdebstrap.log"
    # Without a network there is nothing to be found out about the packages.
    ! grep -iE 'could not (connect|resolve)|temporary failure|unable to connect|network is unreachable|timed? ?out' \
      "$WORK/mmdebstrap.log" >/dev/null ||
      skip_rest 'the packages were not installed anywhere: no network for a clean system'
    die "can't make a clean $CODENAME"
  fi
  mv "$WORK/new.tar" "$TARBALL"
fi

CLEAN=$WORK/clean
mkdir -p "$CLEAN" "$CACHE/archives"
# Not its devices: those of this machine are seen in there.
tar -C "$CLEAN" --numeric-owner --exclude='./dev/*' -xf "$TARBALL" || die "$TARBALL can't be unpacked"
mkdir -p "$CLEAN/package-test"
mknod -m 666 "$CLEAN/fuse" c 10 229 || skip_rest 'the packages were not installed anywhere: no device'
cp "$DEB" "$HERE"/{checks.sh,inside.sh,zsh_candidates,zsh_capture} "$CLEAN/package-test/"
cp "$CACHE"/archives/*.deb "$CLEAN/var/cache/apt/archives/" 2>/dev/null
cp /etc/resolv.conf "$CLEAN/etc/resolv.conf"
for file in /etc/apt/apt.conf /etc/apt/apt.conf.d/*; do
  # How the network is reached; not the rest.
  ! grep -qi '::proxy' "$file" 2>/dev/null || cp "$file" "$CLEAN/etc/apt/apt.conf.d/"
done

# in_clean COMMAND...: in there. The process namespace ends all that it started, the mount namespace
# whatever it mounted. A new root and not chroot(1): mount(8) could not go to another namespace. The
# device is for everybody, as udev has it.
in_clean() {
  # shellcheck disable=SC2016
  unshare --mount --pid --fork --kill-child --propagation private bash -c '
    mount --bind "$0" "$0" && cd "$0" && mount --rbind /dev dev && mount -t proc proc proc &&
      mount --bind fuse dev/fuse && pivot_root . mnt && umount -l mnt &&
      exec chroot . "$@"' "$CLEAN" timeout -k 10 300 env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/root TERM=dumb DEBIAN_FRONTEND=noninteractive "$@"
}
installs() {
  in_clean apt-get install -qq -y "/package-test/${DEB##*/}" >"$WORK/apt.log" 2>&1 ||
    { tail -n 15 "$WORK/apt.log"; return 1; }
}
check 'apt-get install of the package' installs
[[ -x $CLEAN/usr/bin/cookiefs ]] || { give_count; exit 1; }
cp -u "$CLEAN"/var/cache/apt/archives/*.deb "$CACHE/archives/" 2>/dev/null
in_clean bash /package-test/inside.sh /package-test
read -r passed failed <"$CLEAN/package-test/count" || { passed=0 failed=1; }
PASSED=$((PASSED + passed)) FAILED=$((FAILED + failed))

give_count
say "$PASSED passed, $FAILED failed$( ((NOT_DONE == 0)) || echo ", $NOT_DONE skipped")"
((FAILED == 0))
