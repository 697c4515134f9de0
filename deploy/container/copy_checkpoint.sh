#!/bin/sh
# Copies a checkpoint to a disk of this node and reads every byte of the copy.
#   copy_checkpoint.sh SOURCE TARGET
# What is there already with the same size and time is not copied again; a file appears under its name only when it is
# whole. Several on one disk take turns. Fails when a byte is not what SHA256SUMS, where there is one, or the format
# allows: then the copy is taken away, and the next start makes it again.
set -eu
source=${1:?source directory}
target=${2:?target directory}
[ -f "$source/config.json" ] || { echo "$source: no config.json: not a checkpoint" >&2; exit 1; }

mkdir -p "$target"
exec 9<"$target"
flock 9
rm -f "$target"/*.part
for file in "$source"/*; do
  [ -f "$file" ] || continue
  copy=$target/${file##*/}
  facts=$(stat -L -c '%s %Y' "$file")
  [ -f "$copy" ] && [ "$(stat -c '%s %Y' "$copy")" = "$facts" ] && continue
  echo "copying $file"
  cp -L --preserve=timestamps "$file" "$copy.part"
  mv "$copy.part" "$copy"
  rm -f "$target/.verified"
done
for copy in "$target"/*; do
  [ -e "$source/${copy##*/}" ] || { echo "removing $copy, which the source does not have"; rm -f "$copy"; }
done
if [ ! -f "$target/.verified" ]; then
  sheaf verify "$target" || { rm -f "$target"/*; exit 1; }
  : >"$target/.verified"
fi
