#!/usr/bin/env bash
# Makes sheaf-nano from nothing: environment, tokenizer, training, pruning, quantization, accuracy table, loss curve.
#
#   training/make_all.sh WORK        everything goes below the folder WORK; run it again to go on where it stopped
#
# THREADS (2), TOKENS (the schedule's length) and CASES (300 a column) may be set; other values give another model.
# The checkpoint to commit is WORK/sheaf-nano-120; the table is WORK/accuracy.jsonl.
set -euo pipefail

work=$(mkdir -p "${1:?folder to work in}" && cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
threads=${THREADS:-2}
tokens=${TOKENS:-30000000}
cases=${CASES:-300}
sizes=${SIZES:-nano}
full=160 pruned=(120 96)
[[ $sizes == tiny ]] && full=32 pruned=(24 20)

if [[ ! -x $work/venv/bin/python ]]; then
  python3.11 -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet setuptools wheel
  # gptqmodel builds from source against torch, so torch comes first
  grep -v -e '^#' -e gptqmodel -e auto-round "$here/requirements.txt" | "$work/venv/bin/pip" install --quiet -r /dev/stdin
  grep -e gptqmodel -e auto-round "$here/requirements.txt" | "$work/venv/bin/pip" install --quiet --no-build-isolation -r /dev/stdin
fi
python="$work/venv/bin/python"
cd "$work"

[[ -f tokenizer/tokenizer.json ]] || "$python" "$here/tokenizer.py" --out tokenizer
[[ -d master/checkpoint ]] ||
  "$python" "$here/train.py" --tokenizer tokenizer --out master --tokens "$tokens" --threads "$threads" --sizes "$sizes"
"$python" "$here/plot_loss.py" --log master/loss.jsonl --out loss.png

[[ -d bf16-$full ]] || cp -r master/checkpoint "bf16-$full"
for experts in "${pruned[@]}"; do
  [[ -d bf16-$experts ]] ||
    "$python" "$here/prune.py" --checkpoint "bf16-$full" --experts "$experts" --out "bf16-$experts" --threads "$threads"
done
for experts in "$full" "${pruned[@]}"; do
  if [[ ! -d sheaf-nano-$experts ]]; then
    rm -rf partial
    "$python" "$here/quantize.py" --checkpoint "bf16-$experts" --out partial --threads "$threads"
    mv partial "sheaf-nano-$experts"
  fi
done

rm -f accuracy.jsonl
for checkpoint in bf16-"$full" bf16-"${pruned[0]}" bf16-"${pruned[1]}" sheaf-nano-"$full" sheaf-nano-"${pruned[0]}" sheaf-nano-"${pruned[1]}"; do
  "$python" "$here/evaluate.py" --checkpoint "$checkpoint" --cases "$cases" --threads "$threads" \
    --texts "texts/$checkpoint.jsonl" | tee -a accuracy.jsonl
done
