#!/bin/bash
# up.sh [NODES] builds everything and brings a cluster up on this machine, of one node or with more that are machines of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" -ne 0 ]; then
  echo "make up: run it as root: it installs packages, starts a container runtime and the kubelet" >&2
  exit 1
fi
start=$(date +%s)
hack/deps.sh
make --no-print-directory build images
if [ -e /etc/kubernetes/admin.conf ] && bin/ctl get --raw /readyz >/dev/null 2>&1; then
  echo "A cluster is up on this machine already; make down removes it."
else
  bin/ctl init --schedulable --skip-token-print
fi
# wait_for SECONDS WHAT COMMAND...
wait_for() {
  local limit=$1 what=$2 begin said
  shift 2
  begin=$(date +%s)
  said=$begin
  until "$@" >/dev/null 2>&1; do
    if [ $(($(date +%s) - begin)) -ge "$limit" ]; then
      echo "make up: $what did not come within $limit s" >&2
      bin/ctl get pods -A -o wide >&2 || true
      bin/ctl get events -A --sort-by=.lastTimestamp >&2 | tail -20 || true
      exit 1
    fi
    if [ $(($(date +%s) - said)) -ge 5 ]; then
      said=$(date +%s)
      echo "PROGRESS waiting for $what ($((said - begin)) s)"
    fi
    sleep 0.5
  done
}
node=$(bin/ctl get nodes -o name | head -1)
wait_for 120 "$node Ready" bin/ctl wait --for=condition=Ready "$node" --timeout=1s
wait_for 180 "kube-proxy Running" bin/ctl rollout status -n kube-system daemonset/kube-proxy --timeout=1s
wait_for 180 "CoreDNS Running" bin/ctl rollout status -n kube-system deployment/coredns --timeout=1s
[ "${1:-1}" -le 1 ] || hack/nodes.sh up "$1"
echo "PROGRESS make up: $(($(date +%s) - start)) s"
echo
echo "\$ ctl get pods -A"
bin/ctl get pods -A
echo
echo "The cluster is up. bin/ctl (also /usr/local/bin/ctl) is every kubectl command; make down removes all of it."
