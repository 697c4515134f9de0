#!/usr/bin/env bash
# Builds what manifests are checked with, from Go modules: helm, kubectl, etcd and kube-apiserver, and fetches the schemas
# of the other kinds that the chart knows. Pinned versions; nothing is done twice.
#   build_kube_tools.sh PREFIX        # PREFIX/bin, PREFIX/crds
# About 5 minutes, 1.2 GB of modules and 2 GB of memory on two cores. Exit status 77: Go or its module proxy is missing, in one line.
set -euo pipefail
(($# == 1)) || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1"
prefix=$(cd "$1" && pwd)
kubernetes=1.36.3 helm=v3.21.4 etcd=v3.6.8
minor=${kubernetes#1.}
staging=v0.$minor
stamp="kubernetes $kubernetes, helm $helm, etcd $etcd, schemas 1"
[[ -f $prefix/stamp && $(<"$prefix/stamp") == "$stamp" ]] && exit 0

missing() { echo "build_kube_tools: $1" >&2; exit 77; }
command -v go >/dev/null || missing 'needs Go 1.26 or newer'
have=$(go env GOVERSION)
[[ $have =~ ^go1\.([0-9]+) ]] && ((BASH_REMATCH[1] >= 26)) || missing "needs Go 1.26 or newer, got $have"
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false
go mod download "k8s.io/kubernetes@v$kubernetes" 2>/dev/null || missing 'the Go module proxy is not reachable'
folder_of() { go mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p'; }

rm -rf "$prefix/src" "$prefix/crds" "$prefix/stamp"
mkdir -p "$prefix"/{src/etcd,bin,crds}
schemas() {  # MODULE FOLDER FILE...
  local from
  from=$(folder_of "$1")/$2
  shift 2
  for file; do cp "$from/$file" "$prefix/crds/"; done
}
schemas sigs.k8s.io/lws@v0.9.0 config/crd/bases leaderworkerset.x-k8s.io_leaderworkersets.yaml disaggregatedset.x-k8s.io_disaggregatedsets.yaml
schemas sigs.k8s.io/gateway-api@v1.4.0 config/crd/standard gateway.networking.k8s.io_{gateways,httproutes,grpcroutes}.yaml
schemas sigs.k8s.io/gateway-api-inference-extension@v1.5.0 config/crd/bases inference.networking.k8s.io_inferencepools.yaml
schemas github.com/prometheus-operator/prometheus-operator@v0.85.0 example/prometheus-operator-crd monitoring.coreos.com_{podmonitors,servicemonitors}.yaml
schemas github.com/kedacore/keda/v2@v2.21.0 config/crd/bases keda.sh_scaledobjects.yaml
schemas github.com/cert-manager/cert-manager@v1.21.2 deploy/crds cert-manager.io_certificates.yaml
schemas github.com/envoyproxy/gateway@v1.9.1 charts/gateway-crds-helm/templates/generated gateway.envoyproxy.io_backendtrafficpolicies.yaml
chmod -R u+w "$prefix/crds"
sed -i "/^{{/d" "$prefix"/crds/gateway.envoyproxy.io_*  # they are templates of a chart

cd "$prefix/src"
{
  echo "module kubetools
go 1.26.0
require (
  k8s.io/kubernetes v$kubernetes
  go.etcd.io/etcd/server/v3 $etcd
  helm.sh/helm/v3 $helm
)"
  # Kubernetes names its own parts by folders of its repository; as modules they have versions.
  sed -n 's#^\t\(k8s.io/[a-z0-9-]*\) => ./staging/src/.*#\1#p' "$(folder_of "k8s.io/kubernetes@v$kubernetes")/go.mod" |
    while read -r module; do echo "replace $module => $module $staging"; done
} >go.mod
cat >tools.go <<'GO'
//go:build tools

package kubetools

import (
	_ "helm.sh/helm/v3/cmd/helm"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
GO
cat >etcd/main.go <<'GO'
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
GO
go mod tidy -e >tidy.log 2>&1 || { tail -5 tidy.log >&2; missing 'the modules cannot be fetched'; }

version="-X k8s.io/component-base/version.gitVersion=v$kubernetes -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=${minor%%.*}"
version+=" -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=${minor%%.*}"
version+=" -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=${minor%%.*}"
for package in helm.sh/helm/v3/cmd/helm k8s.io/kubernetes/cmd/kubectl ./etcd k8s.io/kubernetes/cmd/kube-apiserver; do
  go build -trimpath -ldflags "-s -w $version" -o "$prefix/bin/" "$package"
done

rm -rf "$prefix/src"
echo "$stamp" >"$prefix/stamp"
