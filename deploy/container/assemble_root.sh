#!/usr/bin/env bash
# The image's file system without a container engine: Debian 12 with the runtime packages, the program and the script,
# as the Containerfile has them.
#   deploy/container/assemble_root.sh BINARY ROOT
# BINARY: a built `sheaf` (it is stripped). ROOT: a directory that is made. Needs root, debootstrap and a Debian mirror
# ($SHEAF_DEBIAN_MIRROR, else that of this machine's apt sources). Exit status 77: something of that is missing, in one line.
set -euo pipefail
(($# == 2)) || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
binary=$(realpath "$1") root=$2
here=$(cd "$(dirname "$0")" && pwd)
missing() { echo "assemble_root: $1" >&2; exit 77; }
((EUID == 0)) || missing 'needs root'
command -v debootstrap >/dev/null || missing 'needs the program debootstrap'
[[ ! -e $root ]] || { echo "$root: is there already" >&2; exit 2; }

apt_mirror() {
  awk '/^URIs:/ {print $2} /^deb / {for (i = 2; i <= NF; ++i) if ($i ~ /:\/\//) print $i}' \
    $(find /etc/apt/sources.list /etc/apt/sources.list.d -type f 2>/dev/null) </dev/null | grep -m 1 -E "/debian/?$" || true
}
mirror=${SHEAF_DEBIAN_MIRROR:-$(apt_mirror)}
[[ -n $mirror ]] || missing 'needs SHEAF_DEBIAN_MIRROR: apt names no mirror'

packages=$(sed '/^#/d' "$here/runtime_packages.txt" | paste -sd, -)
log=$(mktemp)
debootstrap --variant=minbase --include="$packages" bookworm "$root" "$mirror" >"$log" 2>&1 ||
  { tail -5 "$log" >&2; rm -rf "$root" "$log"; missing "debootstrap could not be run with $mirror"; }
rm -f "$log"
install -D -m 755 "$binary" "$root/usr/bin/sheaf"
strip --strip-unneeded "$root/usr/bin/sheaf"
install -D -m 755 "$here/copy_checkpoint.sh" "$root/usr/libexec/sheaf/copy_checkpoint.sh"
install -D -m 644 "$here/../../LICENSE" "$root/usr/share/doc/sheaf/copyright"
sh "$here/strip_root.sh" "$root"
chmod 755 "$root"
du -sh --apparent-size "$root" | awk '{print "image root: " $1}'
