#!/usr/bin/env bash
# Writes rendered/example: what the chart makes of values/example.yaml, for `kubectl apply -k`. Needs helm in PATH.
set -euo pipefail
cd "$(dirname "$0")"
helm template sheaf chart --namespace sheaf --kube-version 1.36.3 --values values/example.yaml >rendered/example/sheaf.yaml
