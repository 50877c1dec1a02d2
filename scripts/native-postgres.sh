#!/usr/bin/env bash
# Runs native PostgreSQL with pgvector for tests, on any Debian machine, as root and without Docker: debootstrap creates
# one directory tree with the server, and servers run in that tree. Nothing else on the machine changes.
#
#   native-postgres.sh start   [--variant plain|textsearch] [--name NAME]   a new empty server; prints its URL
#   native-postgres.sh stop    [--name NAME] [--immediate]                  --immediate: stops like a crash
#   native-postgres.sh restart [--name NAME] [--immediate]                  same data, same port; prints the URL
#   native-postgres.sh url     [--name NAME]
#   native-postgres.sh remove  [--name NAME]                                stops it and deletes its data
#   native-postgres.sh versions [--variant plain|textsearch]                the packages of the tree
#
# NAME defaults to the variant; servers with different names can run at the same time. `start` with a name in use
# replaces that server. Standard output contains only the result. Trees and servers are kept in
# ${XDG_CACHE_HOME:-$HOME/.cache}/memory-service/postgres-18, which you may delete when no server runs.
set -euo pipefail

readonly MAJOR=18
# The first gets new versions earlier; the second is the fallback when the first cannot be installed.
readonly SUITES="sid testing"
readonly CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/memory-service/postgres-$MAJOR"
readonly BIN="/usr/lib/postgresql/$MAJOR/bin"

say() { echo "native-postgres: $*" >&2; }
fail() { say "$*"; exit 1; }

packages_of() {
  case "$1" in
    plain) echo "postgresql-$MAJOR-pgvector" ;;
    # A separate tree, because an installed extension appears in pg_available_extensions.
    textsearch) echo "postgresql-$MAJOR-pgvector,postgresql-$MAJOR-pg-textsearch" ;;
    *) fail "variant must be plain or textsearch, is \"$1\"" ;;
  esac
}

preload_libraries_of() {
  case "$1" in
    textsearch) echo "pg_textsearch" ;;
    *) echo "" ;;
  esac
}

install_debootstrap() {
  if command -v debootstrap >/dev/null; then return; fi
  say "installing debootstrap"
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap debian-archive-keyring wget >&2
}

# The mirror from which apt on this machine gets its own release.
package_mirror() {
  local codename
  codename="$(. /etc/os-release && echo "${VERSION_CODENAME:-}")"
  apt-get indextargets --format '$(SITE) $(RELEASE)' |
    awk -v codename="$codename" '$2 == codename { print $1; exit }'
}

# A tree is created under a temporary name and renamed when it is complete.
ensure_tree() {
  local variant="$1" tree="$CACHE/$1" partial="$CACHE/$1.partial" mirror suite
  mkdir -p "$CACHE"
  exec 9>"$CACHE/$variant.lock"
  flock 9
  if [[ ! -x "$tree$BIN/postgres" ]]; then
    install_debootstrap
    mirror="$(package_mirror)"
    [[ -n "$mirror" ]] || fail "no package mirror found in the settings of apt"
    for suite in $SUITES; do
      remove_tree "$partial"
      say "creating $tree from Debian $suite"
      if debootstrap --variant=minbase --include="$(packages_of "$variant")" "$suite" "$partial" "$mirror" \
        /usr/share/debootstrap/scripts/sid >"$CACHE/$variant.log" 2>&1 && [[ -x "$partial$BIN/postgres" ]]; then
        rm -rf "$partial"/var/cache/apt/archives/*.deb "$partial"/var/lib/apt/lists/*
        remove_tree "$tree"
        mv "$partial" "$tree"
        break
      fi
      say "debootstrap failed; the last lines of its log:"
      tail -n 15 "$CACHE/$variant.log" | sed "s#$mirror#MIRROR#g" >&2
    done
    [[ -x "$tree$BIN/postgres" ]] || fail "could not create a tree with PostgreSQL $MAJOR and pgvector"
  fi
  # Close the descriptor, or the server would inherit and hold the lock.
  exec 9>&-
}

# debootstrap mounts proc and sys in the tree while it works, and leaves them mounted if it is killed.
remove_tree() {
  local mount
  [[ -e "$1" ]] || return 0
  for mount in proc sys dev/pts; do
    if mountpoint -q "$1/$mount"; then umount "$1/$mount"; fi
  done
  rm -rf --one-file-system "$1"
}

# Runs a program of the tree as its user postgres, without the caller's environment.
inside() {
  local tree="$1"
  shift
  env -i PATH="$BIN:/usr/sbin:/usr/bin:/sbin:/bin" LC_ALL=C.UTF-8 HOME=/tmp \
    chroot --userspec=postgres:postgres "$tree" "$@" </dev/null
}

# Below the range of ports for outgoing connections, so that a restart finds its port free.
free_port() {
  local port
  while true; do
    port=$((20000 + RANDOM % 10000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
}

# Sets `tree` (outside) and `home` (inside it) of the server `name`.
find_server() {
  local candidate
  for candidate in "$CACHE"/*/srv/"$name"/port; do
    if [[ -f "$candidate" ]]; then
      home="/srv/$name"
      tree="${candidate%"$home/port"}"
      return
    fi
  done
  return 1
}

print_url() { echo "postgres://postgres@127.0.0.1:$(cat "$tree$home/port")/postgres"; }

# Does not use pg_ctl status: after a reboot, the process id in a stale postmaster.pid may belong to another program.
is_running() {
  local pid
  pid="$(head -n 1 "$tree$home/data/postmaster.pid" 2>/dev/null)" || return 1
  [[ "/proc/$pid/root" -ef "$tree" ]] && grep -qz "^$home/data\$" "/proc/$pid/cmdline" && kill -0 "$pid" 2>/dev/null
}

launch() {
  inside "$tree" pg_ctl -D "$home/data" -l "$home/log" -w -t 120 -o "-p $(cat "$tree$home/port")" start >/dev/null
}

halt() {
  if is_running; then inside "$tree" pg_ctl -D "$home/data" -w -t 120 -m "$1" stop >&2; fi
}

command_start() {
  local attempt
  [[ "$(id -u)" == 0 ]] || fail "must run as root: it installs packages and uses chroot"
  if find_server; then command_remove; fi
  ensure_tree "$variant"
  tree="$CACHE/$variant" home="/srv/$name"
  install -d -m 1777 "$tree/tmp" "$tree/dev/shm"
  rm -rf "${tree:?}$home"
  install -d "$tree$home"
  chroot "$tree" chown postgres:postgres "$home"
  inside "$tree" initdb -D "$home/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 >/dev/null
  cat >>"$tree$home/data/postgresql.conf" <<SETTINGS
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = on
shared_buffers = '512MB'
maintenance_work_mem = '512MB'
max_connections = 200
shared_preload_libraries = '$(preload_libraries_of "$variant")'
SETTINGS
  for attempt in 1 2 3 4 5; do
    free_port >"$tree$home/port"
    if launch; then
      print_url
      return
    fi
    say "start $attempt failed"
  done
  tail -n 20 "$tree$home/log" >&2
  fail "PostgreSQL did not start"
}

command_stop() {
  find_server || fail "no server \"$name\""
  halt "$mode"
}

command_restart() {
  command_stop
  launch || fail "PostgreSQL did not restart; see $tree$home/log"
  print_url
}

command_url() {
  find_server || fail "no server \"$name\""
  print_url
}

command_remove() {
  find_server || fail "no server \"$name\""
  halt immediate
  rm -rf "${tree:?}$home"
}

command_versions() {
  ensure_tree "$variant"
  local packages
  IFS=, read -ra packages <<<"postgresql-$MAJOR,$(packages_of "$variant")"
  chroot "$CACHE/$variant" dpkg-query -W -f '${Package} ${Version}\n' "${packages[@]}"
}

action="${1:-}"
[[ $# -gt 0 ]] && shift
variant=plain name="" mode=fast tree="" home=""
while [[ $# -gt 0 ]]; do
  case "$1" in
    --variant) variant="${2:-}" && shift 2 ;;
    --name) name="${2:-}" && shift 2 ;;
    --immediate) mode=immediate && shift ;;
    *) fail "unknown option \"$1\"" ;;
  esac
done
packages_of "$variant" >/dev/null
name="${name:-$variant}"
[[ "$name" =~ ^[A-Za-z0-9_-]+$ ]] || fail "name must consist of letters, digits, _ and -, is \"$name\""

case "$action" in
  start | stop | restart | url | remove | versions) "command_$action" ;;
  *) fail "usage: native-postgres.sh start|stop|restart|url|remove|versions [--variant V] [--name N] [--immediate]" ;;
esac
