#!/usr/bin/env bash
# Installs what a fresh Debian 12 lacks to build and run Sheaf. Does nothing where all is there.
#   deploy/install_dependencies.sh [--tests]
# --tests adds what only the tests need: Python with pytest and virtual environments, NumPy and a fast BLAS for the oracle, a
# gRPC client, a cross compiler and emulator for the NEON kernels, what network faults are made with, clang for the analysis of
# locks, Prometheus for its promtool (alerts) and as what the alerts run in (its service is switched off again), a browser without a
# screen for the page (100 MB to load; where it is missing those tests are skipped). Not node and npm: the client tests that want them
# are skipped where they are missing.
# Needs root (or sudo) only when something is missing. Rust: 1.87 or newer; Debian's rustc-web where none is there.
set -euo pipefail

packages=(
  ca-certificates curl git
  g++ cmake ninja-build pkg-config ccache
  libgrpc++-dev libgrpc-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev
  libabsl-dev prometheus-cpp-dev libhwy-dev libboost-dev nlohmann-json3-dev
  libsimdjson-dev libspdlog-dev libcli11-dev libyaml-cpp-dev libgtest-dev libgmock-dev libbenchmark-dev libhwloc-dev libnuma-dev libssl-dev libpcre2-dev
)
if [[ ${1:-} == --tests ]]; then
  packages+=(prometheus python3-yaml python3 python3-venv python3-numpy python3-pytest python3-jsonschema python3-jinja2 libopenblas0-pthread python3-grpcio python3-protobuf python3-cryptography g++-aarch64-linux-gnu qemu-user-static iproute2 nftables clang chromium-headless-shell)
fi

rust_version=$(rustc --version 2>/dev/null | sed -E 's/^rustc 1\.([0-9]+).*/\1/' || true)
if ! command -v cargo >/dev/null || [[ ! $rust_version =~ ^[0-9]+$ ]] || ((rust_version < 87)); then
  packages+=(rustc-web cargo-web)
fi

missing=()
for package in "${packages[@]}"; do
  [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
  exit 0
fi

as_root=()
if ((EUID != 0)); then
  as_root=(sudo)
fi
echo "installing ${#missing[@]} Debian packages: ${missing[*]}"
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
if [[ " ${missing[*]} " == *" prometheus "* ]] && command -v systemctl >/dev/null; then
  "${as_root[@]}" systemctl disable --now prometheus >/dev/null 2>&1 || true
fi
