#!/usr/bin/env bash
# Installs what is missing, builds Sheaf, serves a checkpoint with a router and 3 expert workers on this machine,
# asks it one question and stays up until Ctrl-C.
#   deploy/local/run.sh [--once] [CHECKPOINT]
# --once ends after the answer. CHECKPOINT: a directory; default: the small one of this repository.
# Environment: SHEAF_PORT (8000), SHEAF_GRPC_PORT (50051), SHEAF_CLUSTER_PORT (50052); 0, or a taken default, means a free port.
set -euo pipefail
repo=$(cd "$(dirname "$0")/../.." && pwd)

once=0 checkpoint=''
for argument; do
  case $argument in
    --once) once=1 ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "unknown option $argument" >&2; exit 2 ;;
    *) checkpoint=$argument ;;
  esac
done
checkpoint=$(cd "${checkpoint:-$repo/checkpoints/sheaf-nano-120}" && pwd)

cd "$repo"
echo '[1/4] dependencies'
deploy/install_dependencies.sh

echo '[2/4] build (the first one takes some minutes)'
mkdir -p build
cmake --preset release -DSHEAF_RUST_TARGET_DIR="$repo/build/rust" >build/release.configure.log 2>&1 ||
  { cat build/release.configure.log; exit 1; }
cmake --build build/release --target sheaf

free_or_zero() {  # PORT: itself when nobody listens there, else 0
  if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then echo 0; else echo "$1"; fi
}
port=${SHEAF_PORT:-$(free_or_zero 8000)}
grpc_port=${SHEAF_GRPC_PORT:-$(free_or_zero 50051)}
cluster_port=${SHEAF_CLUSTER_PORT:-$(free_or_zero 50052)}

echo "[3/4] router and 3 expert workers on $checkpoint"
run_dir=$(mktemp -d)
server=''
stop() {
  local status=$?
  trap - EXIT INT TERM
  if [[ -n $server ]] && kill -0 "$server" 2>/dev/null; then
    kill -TERM "$server"
    wait "$server" || true
  fi
  rm -rf "$run_dir"
  exit "$status"
}
trap stop EXIT
trap 'exit 0' INT TERM

build/release/sheaf serve "$checkpoint" --workers 3 --port "$port" --grpc-port "$grpc_port" \
  --cluster-port "$cluster_port" --ready-file "$run_dir/ready.json" &
server=$!
for ((waited = 0; ; ++waited)); do
  [[ -s $run_dir/ready.json ]] && break
  kill -0 "$server" 2>/dev/null || { wait "$server" || true; echo 'the server ended before it was ready' >&2; exit 1; }
  ((waited < 6000)) || { echo 'the server was not ready within 10 minutes' >&2; exit 1; }
  sleep 0.1
done
address() { sed -E "s/.*\"$1\":\"([^\"]*)\".*/\1/" "$run_dir/ready.json"; }
http=$(address http) grpc=$(address grpc)

echo '[4/4] one question over gRPC'
question='Hello! What is a sheaf?'
echo "> $question"
build/release/sheaf ask --grpc "$grpc" --max-tokens 64 "$question"

if ((once)); then
  exit 0
fi
cat <<TEXT

gRPC     $grpc
HTTP     http://$http
metrics  http://$http/metrics

curl -N http://$http/v1/chat/completions -H 'Content-Type: application/json' -d '{"model":"$(basename "$checkpoint")","messages":[{"role":"user","content":"$question"}],"max_tokens":64,"stream":true}'
grpcurl -plaintext -d '{"text":"$question","stop":{"max_tokens":16}}' $grpc sheaf.v1.Inference/Generate

Ctrl-C stops every process.
TEXT
wait "$server"
