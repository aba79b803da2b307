#!/bin/bash
# clients.sh brings the sources of real clients into bin/clients, each of one version, and builds there what of them is run: Helm, and the webhooks of cert-manager and of
# prometheus-operator. Each is built by its own go.mod.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$PWD/bin/clients
mkdir -p "$out"
export GOWORK=off GOFLAGS=-mod=mod CGO_ENABLED=0

source() { # source NAME MODULE@VERSION puts a module's source into a folder that may be written to
  local dir
  [ "$(cat "$out/$1.version" 2>/dev/null)" = "$2" ] && return
  dir=$(cd "$out" && go mod download -json "$2" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  [ -n "$dir" ] || { echo "clients: $2 cannot be downloaded" >&2; exit 1; }
  rm -rf "${out:?}/$1" && cp -r "$dir" "$out/$1" && chmod -R u+w "$out/$1"
  rm -f "$out/bin/$1"*
  echo "$2" >"$out/$1.version"
}

build() { # build NAME PROGRAM PACKAGE
  [ -x "$out/bin/$2" ] || hack/step.sh "build $2" env -C "$out/$1" go build -o "$out/bin/$2" "$3"
}

source controller-runtime sigs.k8s.io/controller-runtime@v0.25.2
source helm helm.sh/helm/v4@v4.3.1
source cert-manager github.com/cert-manager/cert-manager@v1.21.2
source prometheus-operator github.com/prometheus-operator/prometheus-operator@v0.85.0
build helm helm ./cmd/helm
# Two modules that lie beside it in its repository are published too.
p=github.com/prometheus-operator/prometheus-operator/pkg
go mod edit -dropreplace=$p/apis/monitoring -dropreplace=$p/client "$out/prometheus-operator/go.mod"
build prometheus-operator prometheus-operator-webhook ./cmd/admission-webhook
# cert-manager's webhook is a program of another module, which is not published; what it starts is in this one.
mkdir -p "$out/cert-manager/cmd/webhook"
cp hack/compare/clients/testdata/cert-manager-webhook.go.txt "$out/cert-manager/cmd/webhook/main.go"
build cert-manager cert-manager-webhook ./cmd/webhook
