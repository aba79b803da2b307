#!/bin/bash
# fuzz.sh DURATION runs every fuzz target of every module for that long.
set -euo pipefail
cd "$(dirname "$0")/.."
for m in . apiserver controller-manager kube-proxy kubelet scheduler; do
  { grep -rlE '^func Fuzz' --include='*_test.go' "$m" 2>/dev/null || true; } | while read -r f; do
    [ "$m" = . ] && case $f in ./apiserver/*|./controller-manager/*|./kube-proxy/*|./kubelet/*|./scheduler/*) continue ;; esac
    dir=$(dirname "${f#"$m"/}")
    grep -oE '^func Fuzz[A-Za-z0-9_]*' "$f" | sed 's/^func //' | while read -r t; do
      hack/step.sh "fuzz $m/$dir $t" env -C "$m" go test "./$dir" -run '^$' -fuzz "^$t\$" -fuzztime "$1"
    done
  done
done
