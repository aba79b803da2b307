#!/bin/bash
# lint.sh: formatted by gofumpt, and no complaint of golangci-lint (.golangci.yml) in a module that ships or of go vet in one that does not.
set -uo pipefail
cd "$(dirname "$0")/.."
rc=0
unformatted=$(git ls-files '*.go' | grep -v '\.pb\.go$' | xargs bin/tools/gofumpt -l)
if [ -n "$unformatted" ]; then
  echo "not formatted by gofumpt:" $unformatted >&2
  rc=1
fi
for m in . apiserver controller-manager kube-proxy kubelet scheduler; do
  hack/step.sh "lint $m" env -C "$m" "$PWD/bin/tools/golangci-lint" run -c "$PWD/.golangci.yml" ./... || rc=1
done
for m in hack/*/go.mod; do
  m=${m%/go.mod}
  [ -z "$(find "$m" -maxdepth 2 -name '*.go' | head -1)" ] || hack/step.sh "vet $m" env -C "$m" GOWORK=off go vet ./... || rc=1
done
exit $rc
