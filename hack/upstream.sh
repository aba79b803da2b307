#!/bin/bash
# upstream.sh [PROGRAM...] builds upstream's programs into bin/upstream: to compare with, and to make a cluster of. What is there and of the version of
# hack/upstream/cluster/go.mod is left as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$PWD/bin/upstream
mkdir -p "$out"
cd hack/upstream/cluster
# Static, so that an image of the program alone has all that it needs.
export GOWORK=off CGO_ENABLED=0
[ $# -gt 0 ] || set -- kube-apiserver etcd kube-scheduler kube-controller-manager kube-proxy kubelet kubectl kubeadm

version() { # version MODULE is what go.mod has
  awk -v m="$1" '$1 == "require" && $2 == m {print $3} $1 == m && $2 ~ /^v/ {print $2}' go.mod | head -1
}

kubernetes=$(version k8s.io/kubernetes)
part=(${kubernetes//[v.]/ })
stamp="-s -w"
for v in "gitVersion=$kubernetes" "gitMajor=${part[0]}" "gitMinor=${part[1]}"; do stamp+=" -X k8s.io/component-base/version.$v"; done
for program; do
  module=k8s.io/kubernetes package=k8s.io/kubernetes/cmd/$program flags=$stamp
  [ "$program" = etcd ] && module=go.etcd.io/etcd/server/v3 package=go.etcd.io/etcd/server/v3 flags="-s -w"
  about=$(go version -m "$out/$program" 2>/dev/null || true)
  if grep -qP "\t$module\t$(version $module)(\t|\$)" <<<"$about" && grep -q CGO_ENABLED=0 <<<"$about"; then continue; fi
  ../../step.sh "build upstream's $program" go build -ldflags "$flags" -o "$out/$program" "$package"
done
