#!/bin/sh
# Makes a Debian tree with CPython 3.14 and CPython's own tests, inside of this clone:
#
#   sh scripts/debian_sid.sh target/debian-sid
#
# and in it `enter`, which runs a command there, with the clone, /tmp and the kernel's file systems
# where they are here: `target/debian-sid/enter python3.14 -V`. It needs debootstrap (which it
# installs where it can), root and mount namespaces.
set -eu

tree=$1
clone=$(cd "$(dirname "$0")/.." && pwd)
packages=python3.14,python3.14-venv,libpython3.14-testsuite,ca-certificates

give_up() {
    echo "no Debian tree: $1" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || give_up "debootstrap needs root"
unshare --mount true 2>/dev/null || give_up "this machine allows no mount namespaces"
if ! command -v debootstrap >/dev/null; then
    { apt-get update && apt-get install --yes debootstrap; } >"$tree.log" 2>&1 ||
        give_up "debootstrap cannot be installed (see $tree.log)"
fi
if [ ! -f "$tree/complete" ]; then
    rm -rf "$tree"
    mkdir -p "$tree"
    # At a place of its own: debootstrap takes no path with a space.
    unshare --mount sh -c '
        mount --bind "$1" /mnt
        exec debootstrap --variant=minbase --include="$2" sid /mnt
    ' sh "$tree" "$packages" >"$tree.log" 2>&1 ||
        give_up "debootstrap failed (see $tree.log)"
    touch "$tree/complete"
fi

tree=$(cd "$tree" && pwd)
cat >"$tree/enter" <<END
#!/bin/sh
# Written by scripts/debian_sid.sh. The mounts are this process's own and end with it.
exec unshare --mount sh -c '
    set -e
    tree=\$1 clone=\$2 here=\$3
    shift 3
    for folder in /proc /dev /sys /tmp; do mount --rbind \$folder "\$tree\$folder"; done
    mkdir -p "\$tree\$clone"
    mount --bind "\$clone" "\$tree\$clone"
    exec chroot "\$tree" /usr/bin/env -C "\$here" "\$@"
' enter "$tree" "$clone" "\$PWD" "\$@"
END
chmod +x "$tree/enter"
