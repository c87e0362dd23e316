# shellcheck shell=bash
# What ls, find, unmount and soak share: options, listers that run side by side, the sum of
# what they saw, the figures at the end. Sources common.sh and mount.sh.
#
# Every lister appends a line 'listings=.. entries=.. duplicates=.. ...' to a file of its own in
# $WORK/records after each listing; the sums come from these files, the evictions from the daemon.
# shellcheck disable=SC2034  # what is set here is used by those who source it

TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tools/common.sh
source "$TOOLS/common.sh"
# shellcheck source=tools/mount.sh
source "$TOOLS/mount.sh"

SOURCE='' SECONDS_TO_RUN=30 ROUNDS=0 JOBS=6 CACHE_SIZE=2M EXTRA_OPTIONS='' DIRECTORY='' EXPECT=0
STABLE='' VERBOSE='' MAY_VANISH='' RETRIES=0

common_help() {
  cat <<END
  --seconds N       how long (default $SECONDS_TO_RUN)
  --rounds N        or: this many listings by each lister
  --jobs N          listers side by side (default $JOBS)
  --cache-size S    the mount's cache_size, far too small on purpose (default $CACHE_SIZE)
  --dir NAME        the directory of the source to work on (default: what the source offers)
  --expect N        how many names it must hold (default: what the source says)
  --stable PREFIX   names that begin with PREFIX must come exactly once, all others at most once:
                    for a directory that changes meanwhile
  --retries N       how often a call that fails is repeated, from the same place (default 0)
  -o OPTIONS        more mount options
  --build DIR       the build tree (default: build, or \$COOKIEFS_BUILD)
  -v, --verbose     show what each lister complains about at once
  -h, --help        this text
Exit status: 0 every listing was right and nothing leaked, 1 not so, 2 usage, 77 skipped.
END
}

usage_error() { die "$1 (--help tells the options)" 2; }

# number NAME VALUE: a positive number, or the end.
number() {
  [[ $2 =~ ^[1-9][0-9]{0,8}$ ]] || usage_error "$1 takes a positive number, not '$2'"
}

# Takes one option that all scripts know. Sets SHIFT to how many words it was; returns 1 when it is
# none of them.
parse_common() {
  SHIFT=2
  case $1 in
    --seconds | --rounds | --jobs | --expect | --cache-size | --dir | --stable | --retries | -o | --build)
      (($# >= 2)) || usage_error "$1 needs a value"
      ;;
  esac
  case $1 in
    --seconds) number "$1" "$2" && SECONDS_TO_RUN=$2 ;;
    --rounds) number "$1" "$2" && ROUNDS=$2 ;;
    --jobs) number "$1" "$2" && JOBS=$2 ;;
    --expect) number "$1" "$2" && EXPECT=$2 ;;
    --cache-size) CACHE_SIZE=$2 ;;
    --dir) DIRECTORY=$2 ;;
    --stable) STABLE=$2 ;;
    --retries) number "$1" "$2" && RETRIES=$2 ;;
    -o) EXTRA_OPTIONS=$2 ;;
    --build) BUILD=$2 ;;
    -v | --verbose) VERBOSE=1 SHIFT=1 ;;
    -*) return 1 ;;
    *)
      [[ -z $SOURCE ]] || usage_error "one SOURCE, not also '$1'"
      SOURCE=$1 SHIFT=1
      ;;
  esac
}

# The programs must have been built; says how where they are not.
need_programs() {
  local program
  for program in cookiefs cookiefsctl getdents_stress check_listing memory_neighbour; do
    [[ -x $BUILD/$program ]] ||
      die "$BUILD/$program is missing: build first (cmake -B build && cmake --build build, or tools/demo)"
  done
  command -v jq >/dev/null || die 'jq is missing: apt-get install jq (or run tools/test install)'
  need_fuse
}

# sim_value KEY: the value of KEY in a sim: source, empty when it has none.
sim_value() { [[ $SOURCE != sim:* ]] || tr ',' '\n' <<<"${SOURCE#sim:}" | sed -n "s/^$1=//p" | tail -n 1; }

# The directory that a local source names, empty for others.
local_path() {
  case $SOURCE in
    file://*) echo "${SOURCE#file://}" ;;
    /* | ./* | ../* | .) echo "$SOURCE" ;;
  esac
}

mount_options() { echo "cache_size=$CACHE_SIZE${EXTRA_OPTIONS:+,$EXTRA_OPTIONS}"; }

# Where names may come and go, others than the expected ones are no mistake.
churn_options() { [[ -z $STABLE ]] || echo "--stable $STABLE"; }

# learn_names: writes the names of $1 that every listing must hold to $REFERENCE. They come from
# the source itself where it is a local directory, else from a first listing of the mount; what
# the source says about their number is checked in both cases.
learn_names() {
  local directory=$1 path
  path=$(local_path)
  REFERENCE=$WORK/names
  [[ -z $path ]] || directory=$path${DIRECTORY:+/$DIRECTORY}
  # shellcheck disable=SC2046  # words on purpose
  "$BUILD/getdents_stress" "$directory" --once --write-names "$REFERENCE" --retries "$RETRIES" \
    $( ((EXPECT == 0)) || echo "--expect $EXPECT") $(churn_options) >"$WORK/learned" ||
    die "the first listing of $directory was wrong: $(cat "$WORK/learned")"
  say "  $(grouped "$(tr -dc '\0' <"$REFERENCE" | wc -c)") names in ${DIRECTORY:-the root}"
}

# -------------------------------------------------------------------------------- listers -------

LISTERS=()
end_listers() {
  ((${#LISTERS[@]} == 0)) || end_groups "${LISTERS[@]}"
  LISTERS=()
}
on_exit end_listers

# lister NUMBER FUNCTION...: runs FUNCTION NUMBER until the time is over, ROUNDS times where that
# is set.
lister() {
  local number=$1 round
  shift
  RECORD=$WORK/records/$number LISTER_LOG=$WORK/logs/$number
  exec 3>&2 2>>"$LISTER_LOG"
  # Ends after the listing that the signal cut off has been noted.
  local stopping=''
  trap 'stopping=1' TERM
  for ((round = 1; ; round++)); do
    "$@" "$number" "$round"
    [[ -z $stopping ]] || break
    ((ROUNDS == 0 || round < ROUNDS)) || break
    ((ROUNDS != 0 || ${EPOCHREALTIME/./} / 1000 < END_MS)) || break
  done
}

# start_lister NUMBER FUNCTION...
start_lister() {
  mkdir -p "$WORK/records" "$WORK/logs"
  start_group lister "$@"
  LISTERS+=("$STARTED")
}

listers_run() {
  local pid
  for pid in "${LISTERS[@]}"; do ! is_running "$pid" || return 0; done
  return 1
}

# checked KIND FORMAT COMMAND...: runs COMMAND, checks what it lists, notes the result. A listing
# that was cut off, because the mount went away and may, has no gaps to count.
checked() {
  local kind=$1 format=$2 line status
  shift 2
  # shellcheck disable=SC2046  # words on purpose
  line=$(
    set -o pipefail
    "$@" 2>>"$LISTER_LOG" |
      {
        "$BUILD/check_listing" --reference "${REFERENCE_OF:-$REFERENCE}" --format "$format" \
          $(churn_options) ${STABLE:+--churn} 2>>"$LISTER_LOG"
        [[ $? = [01] ]] # duplicates and gaps are in the line; this is whether it could check
      }
  ) && status=0 || status=$?
  [[ -n $line ]] || return 0 # ended by a signal
  if ((status == 0)) && ! [[ -n $MAY_VANISH && $line =~ \ entries=[012]\  ]]; then
    echo "kind=$kind $line" >>"$RECORD"
    return 0
  fi
  # Cut off, or the empty directory below a mount that is gone.
  line=$(sed -E 's/^listings=1/listings=0/; s/gaps=[0-9]+/gaps=0/' <<<"$line")
  if [[ -n $MAY_VANISH || -n $stopping ]]; then
    echo "kind=$kind $line" >>"$RECORD"
  else
    echo "kind=$kind $line errors=1" >>"$RECORD"
    [[ -z $VERBOSE ]] || tail -n 2 "$LISTER_LOG" >&3
  fi
}

list_with_ls_f() { checked ls-f names ls --zero -f -- "$LISTED"; }
list_with_ls_l() { checked ls-l ls-l ls_l; }
# What goes away between its listing and its stat (status 1) is no failure of the listing, where
# names come and go.
ls_l() {
  local errors status
  errors=$(mktemp "$WORK/ls-l.XXXXXX")
  ls --zero -lnU --time-style=+%s -- "$LISTED" 2>"$errors"
  status=$?
  cat "$errors" >&2
  if ((status == 1)) && [[ -n $STABLE ]] &&
    ! grep -qv ': No such file or directory$' "$errors" && ! grep -qF "/$STABLE" "$errors"; then
    status=0
  fi
  rm -f "$errors"
  return "$status"
}
list_with_find() { checked find names find "$LISTED" -mindepth 1 -maxdepth 1 -printf '%P\0'; }
list_with_getdents() {
  local line
  # shellcheck disable=SC2046  # words on purpose
  line=$("$BUILD/getdents_stress" "$LISTED" --reference "$REFERENCE" $(churn_options) --rounds 1 \
    --threads 2 --seed "$((${SEED:-1} + $1 * 1000 + $2))" --retries "$RETRIES" \
    ${MAY_VANISH:+--may-vanish} ${LISTER_DELAY:+--delay-us $LISTER_DELAY} 2>>"$LISTER_LOG")
  echo "kind=getdents $line" >>"$RECORD"
}

# -------------------------------------------------------------------------------- pressure ------

# A memory cgroup of $MEMORY MiB for the daemons to come, and a neighbour that fills it to the brim,
# again and again. Where that can't be had it says so.
make_pressure() {
  local bytes=$((MEMORY << 20))
  if ! cgroup_create "$bytes"; then
    skipped "memory pressure ($CGROUP_PROBLEM); unmounting without it"
    EXTRA_FIGURES='pressure=skipped'
    return
  fi
  # Written from inside, so that its pages are the cgroup's: something for the kernel to reclaim.
  (
    echo "$BASHPID" >"$CGROUP/cgroup.procs"
    head -c $((bytes / 8)) /dev/zero >"$WORK/ballast"
    sync "$WORK/ballast"
  )
  # Less left free than the 10 % from which the daemon gives way.
  neighbour_start $((bytes * 7 / 8)) "$WORK/ballast" --margin $((bytes * 6 / 100))
  OOM_BEFORE=$(cgroup_oom_kills)
}

pressure_end() {
  local kills
  [[ -n $CGROUP ]] || return 0
  kills=$(($(cgroup_oom_kills) - OOM_BEFORE))
  ((kills == 0)) || PROBLEMS+=("$kills processes were killed for want of memory")
  is_running "$NEIGHBOUR_PID" || PROBLEMS+=('the memory neighbour ended early')
  neighbour_stop
  say "  the neighbour: $(cat "$WORK/neighbour.log")"
  EXTRA_FIGURES="pressure=yes oom_kills=$kills"
}

# --------------------------------------------------------------------------------- figures ------

# sum KEY...: over all records, one number a line; 'wrong' is everything that should not be.
sum() {
  cat "$WORK"/records/* 2>/dev/null | awk -v keys="$*" '
    { for (i = 1; i <= NF; i++) { split($i, pair, "="); if (pair[2] ~ /^[0-9]+$/) total[pair[1]] += pair[2] } }
    END {
      total["wrong"] = total["duplicates"] + total["gaps"] + total["unexpected"] + total["bad_seeks"] + total["bad_offsets"]
      count = split(keys, key, " ")
      for (i = 1; i <= count; i++) printf "%.0f\n", total[key[i]]
    }'
}

# by_kind: 'ls-f 12, ls-l 9, ...', listings.
by_kind() {
  cat "$WORK"/records/* 2>/dev/null | awk '
    { kind = ""; for (i = 1; i <= NF; i++) { split($i, pair, "="); if (pair[1] == "kind") kind = pair[2]
                                             if (pair[1] == "listings") count[kind] += pair[2] } }
    END { for (kind in count) printf "%s %.0f\n", kind, count[kind] }' | sort | paste -sd, - | sed 's/,/, /g'
}

EVICTIONS=0 REFAULTS=0 FREE_PAGES=0 LEAKS=0 PROBLEMS=()
EVICTIONS_NOW=0 REFAULTS_NOW=0

# The present mount's figures; to be called before it goes away.
read_daemon_figures() {
  local json
  json=$("$BUILD/cookiefsctl" stats "$MOUNT_DIR" --json 2>/dev/null) || return 0
  read -r EVICTIONS_NOW REFAULTS_NOW < <(jq -r '
    def figure($key): (try getpath($key | split(".")) catch null) // .[$key] // 0;
    "\(figure("reclaim.pages")) \(figure("reclaim.refaults"))"' <<<"$json" 2>/dev/null) || true
}

# Adds what the mount that has ended leaves behind; the problem, if there was one.
add_mount_figures() {
  EVICTIONS=$((EVICTIONS + ${EVICTIONS_NOW:-0})) REFAULTS=$((REFAULTS + ${REFAULTS_NOW:-0}))
  EVICTIONS_NOW=0 REFAULTS_NOW=0
  LEAKS=$((LEAKS + MOUNT_LEAKS))
  [[ -z $MOUNT_PROBLEM ]] || PROBLEMS+=("$MOUNT_PROBLEM")
}

LAST_ENTRIES=0 LAST_MS=0 NEXT_LINE_MS=0 LINE_EVERY_MS=5000
# progress_line [MORE]: how far it is; in place on a terminal, else a line every LINE_EVERY_MS.
# shellcheck disable=SC2120
progress_line() {
  local now listings entries wrong rate figures text
  now=$(now_ms)
  ((now >= NEXT_LINE_MS)) || return 0
  mapfile -t figures < <(sum listings entries wrong)
  listings=${figures[0]} entries=${figures[1]} wrong=${figures[2]}
  rate=$((LAST_MS == 0 ? 0 : (entries - LAST_ENTRIES) * 1000 / (now - LAST_MS + 1)))
  LAST_ENTRIES=$entries LAST_MS=$now
  text=$(printf '  %4d s: %s listings, %s entries (%s/s), %s evicted, %s refaults, %d wrong%s' \
    "$(((now - START_MS) / 1000))" "$(grouped "$listings")" "$(grouped "$entries")" \
    "$(grouped "$rate")" "$(grouped $((EVICTIONS + EVICTIONS_NOW)))" \
    "$(grouped $((REFAULTS + REFAULTS_NOW)))" "$wrong" "${1:+, $1}")
  if [[ -n $IS_TTY ]]; then
    transient "$text"
    NEXT_LINE_MS=$((now + 1000))
  else
    say "$text"
    NEXT_LINE_MS=$((now + LINE_EVERY_MS))
  fi
}

start_clock() {
  START_MS=$(now_ms)
  END_MS=$((START_MS + SECONDS_TO_RUN * 1000))
  LAST_MS=$START_MS NEXT_LINE_MS=$((START_MS + 1000))
}

# Waits for the listers, with progress; drops pages now and then, beside what the small cache does.
watch_listers() {
  local turn=0
  while listers_run; do
    sleep 0.25
    ((turn++ % 8)) || drop_pages
    ((turn % 4)) || read_daemon_figures
    progress_line
    if ! is_running "$MOUNT_PID"; then
      PROBLEMS+=("the daemon ended under the listers: $(mount_last_words)")
      break
    fi
    # A listing that has begun may end, within reason.
    ((ROUNDS != 0 || $(now_ms) < END_MS + 20000)) || break
  done
  transient_done
}

# The end: figures, the verdict, the exit status.
finish() {
  local figures problem extra
  mapfile -t figures < <(sum listings entries duplicates gaps unexpected bad_seeks bad_offsets seeks rewinds errors)
  heading 'Figures'
  extra=$(by_kind)
  printf '  %-12s %s%s\n' listings "$(grouped "${figures[0]}")" "${extra:+   ($extra)}" \
    entries "$(grouped "${figures[1]}")" '' \
    seeks "$(grouped "${figures[7]}")" "   (and ${figures[8]} rewinds)" \
    evictions "$(grouped "$EVICTIONS")" '' \
    refaults "$(grouped "$REFAULTS")" '' \
    duplicates "${figures[2]}" '' \
    gaps "${figures[3]}" '' \
    leaks "$LEAKS" ''
  ((figures[4] == 0)) || PROBLEMS+=("${figures[4]} names that should not exist")
  ((figures[5] == 0)) || PROBLEMS+=("${figures[5]} seeks were followed by other entries than before")
  ((figures[6] == 0)) || PROBLEMS+=("${figures[6]} offsets outside [1, 2^63-1]")
  ((figures[9] == 0)) || PROBLEMS+=("${figures[9]} listings failed")
  ((figures[2] == 0)) || PROBLEMS+=("${figures[2]} duplicates")
  ((figures[3] == 0)) || PROBLEMS+=("${figures[3]} gaps")
  ((figures[0] > 0)) || PROBLEMS+=('not one listing was completed')
  ((EVICTIONS > 0)) || warn 'nothing was evicted: take a larger source or a smaller cache'
  for problem in "${PROBLEMS[@]}"; do say "  ${RED}wrong:${RESET} $problem"; done
  if ((${#PROBLEMS[@]})); then
    cat "$WORK"/logs/* 2>/dev/null | sort | uniq -c | sort -rn | head -n 10 | sed 's/^/  | /'
    [[ ! -s ${MOUNT_LOG:-} ]] || tail -n 80 "$MOUNT_LOG" | sed 's/^/  daemon | /'
    say "${BOLD}${RED}FAILED${RESET}"
  else
    say "${BOLD}${GREEN}PASSED${RESET}"
  fi
  say "figures: listings=${figures[0]} entries=${figures[1]} evictions=$EVICTIONS refaults=$REFAULTS duplicates=${figures[2]} gaps=${figures[3]} leaks=$LEAKS${EXTRA_FIGURES:+ $EXTRA_FIGURES}"
  ((${#PROBLEMS[@]} == 0))
  exit
}
