# shellcheck shell=bash
# What scripts/quickstart and scripts/test have in common: packages, devices, an account, .venv. Sourced by both.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
account=rootless-test
venv=$root/.venv
say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }
is_root() { [ "$(id -u)" = 0 ]; }

# packages GROUP...: install what is missing of these groups; without root print the command for an administrator.
packages() {
    local wanted=" $* " group package reason missing=() optional=()
    if ! command -v dpkg-query >/dev/null; then
        say "this is not Debian: nothing is installed, what is there is used (scripts/debian-packages lists what is needed)"
        return 0
    fi
    while read -r group package reason; do
        : "$reason"
        case $group in '' | '#'*) continue ;; esac
        case $wanted in *" ${group%\?} "*) ;; *) continue ;; esac
        case " ${missing[*]-} ${optional[*]-} " in *" $package "*) continue ;; esac
        case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in *' installed') continue ;; esac
        case $group in *\?) optional+=("$package") ;; *) missing+=("$package") ;; esac
    done <"$root/scripts/debian-packages"
    local all=(${missing[@]+"${missing[@]}"} ${optional[@]+"${optional[@]}"})
    [ ${#all[@]} -gt 0 ] || return 0
    if ! is_root; then
        say "missing packages; an administrator installs them with:"
        say "    sudo apt-get install -y --no-install-recommends ${all[*]}"
        return 0
    fi
    local apt=(apt-get -q -o DPkg::Lock::Timeout=300)
    export DEBIAN_FRONTEND=noninteractive
    say "installing ${all[*]}"
    "${apt[@]}" update >/dev/null || say "apt-get update failed; going on with the lists that are there"
    local known=()
    for package in ${optional[@]+"${optional[@]}"}; do
        if apt-cache show "$package" >/dev/null 2>&1; then known+=("$package"); else say "this release has no $package"; fi
    done
    quietly "${apt[@]}" install -y --no-install-recommends ${missing[@]+"${missing[@]}"} ${known[@]+"${known[@]}"}
}

# quietly COMMAND...: run it, show what it printed only if it fails.
quietly() {
    local output status=0
    output=$("$@" 2>&1 </dev/null) || status=$?
    [ $status = 0 ] || { printf '%s\n' "$output" >&2; die "failed: $*"; }
}

# devices: let unprivileged users open /dev/fuse and /dev/net/tun, as distributions do.
devices() {
    local node mode
    for node in /dev/fuse /dev/net/tun; do
        if [ ! -c "$node" ]; then
            if is_root; then modprobe "${node##*/}" 2>/dev/null || true; fi
            [ -c "$node" ] || { say "there is no $node"; continue; }
        fi
        mode=$(stat -c %a "$node")
        case $mode in *6 | *7) continue ;; esac
        if is_root; then
            chmod 0666 "$node" && say "$node was $mode: set to 0666, as distributions do"
        elif [ ! -r "$node" ] || [ ! -w "$node" ]; then
            say "$node cannot be opened; an administrator allows it with: sudo chmod 0666 $node"
        fi
    done
}

# make_account: make or reuse the unprivileged account with subordinate ranges, for runs that root starts.
make_account() {
    local kind file next
    if ! id "$account" >/dev/null 2>&1; then
        useradd --create-home --shell /bin/bash "$account"
        say "made the account $account"
    fi
    for kind in uid gid; do
        file=/etc/sub$kind
        [ -e "$file" ] || touch "$file"
        grep -q "^$account:" "$file" && continue
        next=$(awk -F: -v n=100000 '$2 + $3 > n { n = $2 + $3 } END { print n }' "$file")
        printf '%s:%s:65536\n' "$account" "$next" >>"$file"
        say "gave $account the range $next:65536 in $file"
    done
}

# as_account COMMAND...: run it as the account with a clean environment; as the caller when the caller is not root.
as_account() {
    local environment=(LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 "TERM=${TERM-dumb}" "PATH=$PATH") name
    for name in CI ROOTLESS_TEST_REQUIRE ROOTLESS_TEST_WORK OCI_RUNTIME; do
        [ -z "${!name+x}" ] || environment+=("$name=${!name}")
    done
    if is_root; then
        (cd / && exec runuser -u "$account" -- env -i "HOME=$(getent passwd "$account" | cut -d: -f6)" \
            "USER=$account" "LOGNAME=$account" ROOTLESS_TEST_DEDICATED=1 "${environment[@]}" "$@")
    else
        (exec env "${environment[@]}" "$@")
    fi
}

# can_read: can the account read the clone, .venv and the interpreter in it?
can_read() {
    as_account test -r "$root/pyproject.toml" -a -x "$root/scripts" &&
        { [ ! -e "$venv" ] || as_account test -x "$venv/bin/python"; }
}

# copy_tree DIRECTORY: copy the clone, without what is built or ignored, to a new DIRECTORY.
copy_tree() {
    mkdir -p "$1" && pack_tree | tar -x -C "$1" --no-same-owner -f -
}
pack_tree() {
    tar -c -C "$root" --exclude=./.git --exclude=./.venv --exclude=./build --exclude=./dist --exclude=./results \
        --exclude=__pycache__ --exclude='*.so' --exclude='.*_cache' --exclude=./.hypothesis \
        --exclude=./rootless/stage/stage.bin --exclude=./rootless/stage/enter -f - .
}

# system_python: the interpreter for .venv. Root's PATH may begin with one in root's home, which the account that runs the
# tests could not reach: the system's own comes first, if it is new enough.
system_python() {
    local found
    for found in ${PYTHON:+"$PYTHON"} /usr/bin/python3 python3; do
        if "$found" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$found"
            return
        fi
    done
    echo python3
}

# make_venv product|dev: make or refresh .venv and build in place; `dev` adds what tests need.
make_venv() {
    local stamp=$venv/.rootless-installed state python extra
    python=$(system_python)
    local pip=("$venv/bin/python" -m pip --disable-pip-version-check -q install)
    command -v "$python" >/dev/null || die "there is no python3: apt-get install -y python3 python3-dev python3-venv gcc libc6-dev"
    state=$("$python" -V; cat "$root/pyproject.toml" "$root"/scripts/launcher.* | sha256sum; echo "$root"
        ls /usr/include/slirp/libslirp.h /usr/include/fuse3/fuse.h /usr/include/sys/capability.h 2>&1)
    if [ "$(cat "$stamp" 2>/dev/null)" != "$state" ]; then
        [ -x "$venv/bin/python" ] || { say "making .venv"; quietly "$python" -m venv "$venv"; }
        say "installing rootless and what it stands on into .venv"
        if ! "${pip[@]}" -e "${root}[all]" >"$venv/pip.log" 2>&1 </dev/null; then
            say "not everything optional can be built here ($venv/pip.log); one by one:"
            quietly "${pip[@]}" -e "$root"
            for extra in net fuse prctl; do
                "${pip[@]}" -e "${root}[$extra]" >>"$venv/pip.log" 2>&1 </dev/null || say "without the extra '$extra'"
            done
        fi
        printf '%s\n' "$state" >"$stamp"
    fi
    if [ "$1" = dev ] && [ "$(cat "$stamp-dev" 2>/dev/null)" != "$state" ]; then
        say "installing what the tests need into .venv"
        # pip learned --group with 25.1; Debian 12 has 23.
        mapfile -t extra < <("$venv/bin/python" -c 'import sys, tomllib
print("\n".join(tomllib.load(open(sys.argv[1], "rb"))["dependency-groups"]["dev"]))' "$root/pyproject.toml")
        quietly "${pip[@]}" "${extra[@]}"
        printf '%s\n' "$state" >"$stamp-dev"
    fi
    "$venv/bin/python" "$root/scripts/hatch_build.py" || die "the native parts cannot be built"
}
