#!/bin/bash
# lint.sh: formatted by gofumpt, and no complaint of go vet, in every module.
set -uo pipefail
cd "$(dirname "$0")/.."
rc=0
unformatted=$(git ls-files '*.go' | grep -v '\.pb\.go$' | xargs bin/tools/gofumpt -l)
if [ -n "$unformatted" ]; then
  echo "not formatted by gofumpt:" $unformatted >&2
  rc=1
fi
for m in . apiserver controller-manager kube-proxy kubelet scheduler; do
  hack/step.sh "vet $m" env -C "$m" go vet ./... || rc=1
done
for m in hack/images hack/e2e; do
  [ -f "$m/go.mod" ] && { hack/step.sh "vet $m" env -C "$m" GOWORK=off go vet ./... || rc=1; }
done
exit $rc
