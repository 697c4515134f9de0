#!/usr/bin/env bash
# Makes sheaf-nano from nothing: environment, tokenizer, training, pruning, quantization, accuracy table, loss curve.
#
#   training/make_all.sh WORK            everything goes below the folder WORK; run it again to go on where it stopped
#   training/make_all.sh WORK deliver    and then puts the 120-expert checkpoint, the fixed questions of Sheaf's tests and the
#                                        loss curve into this repository
#
# THREADS (2), SCHEDULE (of the learning rate, as train.py has it), CASES (300 a column) and CASE_SEED (1) may be set; other values
# give another model or another table. With SHEAF, a sheaf binary, the 120-expert checkpoint is also measured through a server.
# The table is WORK/accuracy.md. Where Debian's libjemalloc2 is installed training uses it: faster, the same losses.
set -euo pipefail

work=$(mkdir -p "${1:?folder to work in}" && cd "$1" && pwd)
goal=${2:-} sheaf=${SHEAF:+$(realpath "$SHEAF")}
here=$(cd "$(dirname "$0")" && pwd)
threads=${THREADS:-2}
schedule=(${SCHEDULE:+--schedule "$SCHEDULE"})
cases=${CASES:-300} case_seed=${CASE_SEED:-1}
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
allocator=()
jemalloc=(/usr/lib/*/libjemalloc.so.2)
[[ ! -f ${jemalloc[0]} ]] ||
  allocator=(env "LD_PRELOAD=${jemalloc[0]}" MALLOC_CONF=dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always)
until [[ -d master/checkpoint ]]; do  # ten minutes at a time: an allocator keeps more and more memory
  "${allocator[@]}" "$python" "$here/train.py" --tokenizer tokenizer --out master "${schedule[@]}" \
    --threads "$threads" --sizes "$sizes" --minutes 10
done
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

measure() {  # NAME CHECKPOINT OPTION...: accuracy/NAME.json and texts/NAME.jsonl
  [[ -f accuracy/$1.json ]] && return
  mkdir -p accuracy texts
  "$python" "$here/evaluate.py" --checkpoint "$2" --cases "$cases" --seed "$case_seed" --threads "$threads" --texts "texts/$1.jsonl" "${@:3}" \
    >accuracy/partial
  mv accuracy/partial "accuracy/$1.json"
  cat "accuracy/$1.json"
}

names=()
for kind in bf16 sheaf-nano; do
  for experts in "$full" "${pruned[@]}"; do
    measure "$kind-$experts" "$kind-$experts"
    names+=("accuracy/$kind-$experts.json")
  done
done

nano=sheaf-nano-${pruned[0]}
if [[ -n $sheaf ]]; then
  rm -f ready.json
  "$sheaf" serve "$nano" --workers 2 --port 0 --grpc-port 0 --ready-file ready.json >serve.log 2>&1 &
  server=$!
  trap 'kill "$server"' EXIT
  deadline=$((SECONDS + 300))
  until [[ -s ready.json ]]; do
    kill -0 "$server"
    ((SECONDS < deadline)) || { echo "$nano: the server is not ready after 300 s, see $work/serve.log" >&2; exit 1; }
    sleep 0.2
  done
  measure "$nano-by-sheaf" "$nano" --url "http://$(sed -E 's/.*"http":"([^"]*)".*/\1/' ready.json)"
  kill "$server"
  wait "$server" || true
  trap - EXIT
  "$python" "$here/evaluate.py" --checkpoint "$nano" --compare "texts/$nano.jsonl" "texts/$nano-by-sheaf.jsonl" >compared.json
  names+=("accuracy/$nano-by-sheaf.json")
fi
"$python" "$here/evaluate.py" --table "${names[@]}" | tee accuracy.md

if [[ $goal == deliver ]]; then
  checkpoints=$here/../checkpoints
  mkdir -p "$checkpoints"
  rm -rf "${checkpoints:?}/$nano"
  cp -r "$nano" "$checkpoints/"
  chmod a+r "$checkpoints/$nano"/*
  cp loss.png "$here/loss.png"
  "$python" "$here/fixed_questions.py" --checkpoint "$nano" --threads "$threads" --out "$here/../tests/process/nano_questions.json"
  du -sh "$checkpoints/$nano"
fi
