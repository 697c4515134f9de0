#!/usr/bin/env bash
# Writes rendered/: what the chart makes of values/example.yaml and example_tls.yaml, for `kubectl apply -k`. Needs helm in PATH.
set -euo pipefail
cd "$(dirname "$0")"
for name in example example_tls; do
  helm template sheaf chart --namespace sheaf --kube-version 1.36.3 --values "values/$name.yaml" >"rendered/$name/sheaf.yaml"
done
