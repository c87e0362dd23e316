# shellcheck shell=bash
# Completion for cookiefs and mount.cookiefs: flags, option names and values, sources, mount points.
#
# bash splits words at = and : as COMP_WORDBREAKS says; here they are put together again, and what
# stands before the last of those characters is taken off the answers.

_cookiefs_own='cache_size= cache_min= ttl= timeout= readdirplus= walk_ahead= kernel_listings= close=
  locks= max_threads= metrics= log_level= writeback_cache'
_cookiefs_fuse='allow_other allow_root default_permissions auto_unmount fsname= subtype= max_read= ro rw
  dev nodev suid nosuid exec noexec atime noatime async sync dirsync'
_cookiefs_fstab='defaults auto noauto user users nofail _netdev x-systemd.automount'
_cookiefs_nfs='version= vers= nfsvers= port= nfsport= mountport= proto= tcp nconnect= hard soft timeo=
  retrans= resvport noresvport rsize= wsize= sec= squash uid= gid='
_cookiefs_sftp='ssh_command= sftp_server= port= ssh_config= ssh_option= compression= BatchMode=
  BindAddress= CertificateFile= Ciphers= Compression= ConnectTimeout= ConnectionAttempts=
  ControlMaster= ControlPath= GlobalKnownHostsFile= HostKeyAlgorithms= HostKeyAlias= HostName=
  IdentitiesOnly= IdentityAgent= IdentityFile= KexAlgorithms= MACs= PreferredAuthentications= Port=
  ProxyCommand= ProxyJump= ServerAliveCountMax= ServerAliveInterval= StrictHostKeyChecking=
  UserKnownHostsFile='
_cookiefs_sim='big= tree= deep= mix name_len= rtt= jitter= bandwidth= batch= inflight= cookies=
  eofcookie= verifier= churn= wcc= unstable= xattr= fold= space= faults= seed='

# The values of an option or a key that has a few; nothing for others.
_cookiefs_values() {
  case $1 in
    cache_size=) echo auto ;;
    readdirplus=) echo auto yes no ;;
    kernel_listings= | compression= | wcc= | unstable= | xattr= | fold=) echo yes no ;;
    log_level=) echo trace debug info warning error critical off ;;
    version= | vers= | nfsvers=) echo 3 4 ;;
    proto=) echo tcp tcp6 ;;
    sec=) echo sys none ;;
    cookies=) echo ordered hashed descending huge index name ;;
    eofcookie=) echo sentinel ;;
    close=) echo wait nowait ;;
    locks=) echo auto remote mount ;;
    verifier=) echo strict ;;
    faults=) echo error: timeout: disconnect: repeat: empty: badname: lostreply: reboot: ;;
  esac
}

# _cookiefs_list HEAD LIST NAMES: answers for the last item of a comma-separated LIST after HEAD.
_cookiefs_list() {
  local before=$1 item=$2 names=$3 name=''
  if [[ $item = *,* ]]; then
    before+=${item%,*},
    item=${item##*,}
  fi
  if [[ $item = *=* ]]; then
    name=${item%%=*}=
    names=$(_cookiefs_values "$name")
    case $name in
      ssh_config= | IdentityFile= | CertificateFile= | UserKnownHostsFile= | GlobalKnownHostsFile=)
        mapfile -t COMPREPLY < <(compgen -P "$before$name" -f -- "${item#*=}")
        return
        ;;
    esac
    item=${item#*=}
  fi
  mapfile -t COMPREPLY < <(compgen -P "$before$name" -W "$names" -- "$item")
}

# The option names for the source on the command line, or for all where there is none yet.
_cookiefs_names() {
  local word source=''
  for word in "$@"; do
    case $word in
      nfs://* | sftp://* | sim:* | file:* | /*) source=$word && break ;;
    esac
  done
  case $source in
    nfs://*) echo "$_cookiefs_own $_cookiefs_fuse $_cookiefs_fstab $_cookiefs_nfs" ;;
    sftp://*) echo "$_cookiefs_own $_cookiefs_fuse $_cookiefs_fstab $_cookiefs_sftp" ;;
    '') echo "$_cookiefs_own $_cookiefs_fuse $_cookiefs_fstab $_cookiefs_nfs $_cookiefs_sftp" ;;
    *) echo "$_cookiefs_own $_cookiefs_fuse $_cookiefs_fstab" ;;
  esac
}

_cookiefs() {
  local line=${COMP_LINE:0:COMP_POINT} current previous words i positionals=0 breaks reply
  read -ra words <<<"$line"
  current=''
  [[ $line = *[[:blank:]] ]] || { current=${words[-1]} && unset 'words[-1]'; }
  previous=${words[-1]}
  for ((i = 1; i < ${#words[@]}; i++)); do
    case ${words[i]} in
      -o) ((i++)) ;;
      -*) ;;
      *) ((positionals++)) ;;
    esac
  done
  COMPREPLY=()
  if [[ $previous = -o ]]; then
    compopt -o nospace 2>/dev/null
    _cookiefs_list '' "$current" "$(_cookiefs_names "${words[@]:1}")"
  elif [[ $current = -o* ]]; then
    compopt -o nospace 2>/dev/null
    _cookiefs_list -o "${current#-o}" "$(_cookiefs_names "${words[@]:1}")"
  elif [[ $current = -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W '-f -d --debug -s -o -h --help -V --version' -- "$current")
  elif ((positionals == 0)) && [[ $current = sim:* ]]; then
    compopt -o nospace 2>/dev/null
    _cookiefs_list sim: "${current#sim:}" "$_cookiefs_sim"
  elif ((positionals == 0)) && [[ $current != *[:/]* ]]; then
    compopt -o nospace 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -W 'file:// nfs:// sftp:// sim:' -- "$current"
      compgen -d -S / -- "$current")
  else
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -d -- "$current")
  fi
  # What readline replaces begins behind the last word break.
  breaks=${COMP_WORDBREAKS//[^=:]/}
  if [[ -n $breaks && $current = *[$breaks]* ]]; then
    previous=${current%"${current##*["$breaks"]}"}
    for i in "${!COMPREPLY[@]}"; do
      reply=${COMPREPLY[i]}
      COMPREPLY[i]=${reply#"$previous"}
    done
  fi
}
complete -F _cookiefs cookiefs mount.cookiefs
