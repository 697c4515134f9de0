#!/bin/sh
# What an image of a running program has no use for: package lists and caches, manuals, translations, logs.
#   strip_root.sh ROOT
# Copyright files stay, as does dpkg's list of what is installed (the bill of materials is made of it).
set -eu
root=${1:?root directory}
root=${root%/}
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/cache/debconf/* "$root"/var/log/* \
  "$root"/usr/share/man/* "$root"/usr/share/locale/* "$root"/usr/share/info/* "$root"/usr/share/lintian
find "$root/usr/share/doc" -type f ! -name copyright -delete
find "$root/usr/share/doc" -type l ! -name copyright -delete
find "$root/usr/share/doc" -depth -type d -empty -delete
