#!/bin/bash
# check.sh: the generated code is what the contracts say, and the dependency rules of DESIGN §3 hold.
set -uo pipefail
cd "$(dirname "$0")/.."
rc=0
complain() {
  echo "check: $*" >&2
  rc=1
}

# Generated code. buf writes to a copy, so that a check changes nothing.
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r buf.yaml buf.gen.yaml proto "$copy/"
if (cd "$copy" && PATH="$OLDPWD/bin/tools:$PATH" buf lint && PATH="$OLDPWD/bin/tools:$PATH" buf generate); then
  diff -r proto "$copy/proto" >/dev/null || complain "proto/ is not what make gen writes: run make gen"
else
  complain "buf failed"
fi

# What no binary may be built from, and what the five components may not.
never='^(k8s\.io/kubernetes(/|$)|k8s\.io/apiserver/pkg/(server|registry|storage|endpoints)(/|$)|k8s\.io/kube-aggregator/pkg/(apiserver|registry|controllers)(/|$)|k8s\.io/apiextensions-apiserver/pkg/(registry|controller|cmd)(/|$)|k8s\.io/apiextensions-apiserver/pkg/apiserver$)'
# (kube-apiserver serves every kind, so that its scheme may have every kind.)
components='^(k8s\.io/client-go/kubernetes|k8s\.io/client-go/informers)(/|$)'
rule() { # rule MODULE PACKAGE PATTERN [ALLOWED]
  local found
  if ! found=$(go list -C "$1" -deps "$2" 2>&1); then
    complain "go list $2 in $1: $found"
    return
  fi
  found=$(grep -E "$3" <<<"$found" | grep -vE "${4:-^\$}")
  [ -z "$found" ] || complain "$2 in $1 must not be built from:" $found
}
for c in apiserver:kube-apiserver controller-manager:kube-controller-manager kube-proxy:kube-proxy kubelet:kubelet scheduler:kube-scheduler; do
  rule "${c%%:*}" "./cmd/${c##*:}" "$never"
  allowed='^$'
  [ "$c" = apiserver:kube-apiserver ] && allowed='^k8s\.io/client-go/kubernetes/scheme$'
  rule "${c%%:*}" "./cmd/${c##*:}" "$components" "$allowed"
done
rule . ./ctl/cmd/ctl "$never"

# main.go of a binary is 60 lines at most.
for f in */cmd/*/main.go; do
  [ "$(wc -l <"$f")" -le 60 ] || complain "$f has more than 60 lines"
done
[ $rc -eq 0 ] && echo "check: ok"
exit $rc
