# shellcheck shell=bash
# Completion for cookiefsctl: commands, their options, and where cookiefs is mounted.

# One line a command, in alphabetical order: its name and its options.
_cookiefsctl_commands='check -r --recursive
dir --json
drop
invalidate
list --json
log-level
map --svg
metrics --label
stats --json
sync
top --interval --once
warm --attributes --depth --jobs'

_cookiefsctl() {
  local current=${COMP_WORDS[COMP_CWORD]} command='' options='' positionals=0 word name rest
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    if [[ $word = -* ]]; then
      continue
    elif [[ -z $command ]]; then
      command=$word
    else
      ((positionals++))
    fi
  done
  COMPREPLY=()
  if [[ -z $command ]]; then
    while read -r name rest; do options+=" $name"; done <<<"$_cookiefsctl_commands"
    [[ $current != -* ]] || options='-h --help -V --version'
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
    return
  fi
  # The value of an option.
  case ${COMP_WORDS[COMP_CWORD - 1]} in
    --svg)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      return
      ;;
    --label | --interval | --depth | --jobs) return ;;
  esac
  if [[ $current = -* ]]; then
    while read -r name rest; do
      [[ $name != "$command" ]] || options=$rest
    done <<<"$_cookiefsctl_commands"
    mapfile -t COMPREPLY < <(compgen -W "$options -h --help" -- "$current")
  elif [[ $command = log-level ]] && ((positionals == 1)); then
    mapfile -t COMPREPLY < <(
      compgen -W 'trace debug info warning error critical off' -- "$current")
  elif [[ $command != list ]]; then
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <({
      compgen -W "$(findmnt -rno TARGET -t fuse.cookiefs 2>/dev/null)" -- "$current"
      # Below a mount, or before anything of one has been typed.
      if [[ -n $current || -z $(findmnt -rno TARGET -t fuse.cookiefs 2>/dev/null) ]]; then
        if [[ $command = invalidate ]]; then compgen -f -- "$current"; else compgen -d -- "$current"; fi
      fi
    } | sort -u)
  fi
}
complete -F _cookiefsctl cookiefsctl
