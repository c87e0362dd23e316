# shellcheck shell=bash
# Completion for cookiefsctl: commands, their options, and where cookiefs is mounted.

# One line a command, in alphabetical order: its name and its options.
_cookiefsctl_commands='drop
invalidate
stats --json'

_cookiefsctl() {
  local current=${COMP_WORDS[COMP_CWORD]} command='' options='' word name rest
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ $word = -* ]] || { command=$word && break; }
  done
  COMPREPLY=()
  if [[ -z $command ]]; then
    while read -r name rest; do options+=" $name"; done <<<"$_cookiefsctl_commands"
    [[ $current != -* ]] || options='-h --help -V --version'
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
  elif [[ $current = -* ]]; then
    while read -r name rest; do
      [[ $name != "$command" ]] || options=$rest
    done <<<"$_cookiefsctl_commands"
    mapfile -t COMPREPLY < <(compgen -W "$options -h --help" -- "$current")
  else
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
