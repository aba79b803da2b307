#!/bin/bash
# bench.sh brings a cluster up, measures it, and removes it. It prints the time from the exec of kube-apiserver to
# /readyz, from `ctl init` to node and CoreDNS Ready, and the resident memory of each binary of the settled cluster,
# beside upstream v1.37.2's on the same kind of machine.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -e /etc/kubernetes/admin.conf ]; then
  echo "make bench: a cluster is on this machine already; make down first" >&2
  exit 1
fi
settle=${BENCH_SETTLE:-60}
work=$(mktemp -d)
api=
cleanup() {
  [ -n "$api" ] && kill "$api" 2>/dev/null
  [ -e /etc/kubernetes/admin.conf ] && bin/ctl reset --force >/dev/null 2>&1
  rm -rf "$work"
}
trap cleanup EXIT
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN {printf "%.2f", b - a}'; }

# kube-apiserver alone, with its embedded etcd, from exec to /readyz.
bin/ctl init phase certs --cert-dir "$work/pki" >/dev/null
p=$work/pki
for run in 1 2 3; do
  rm -rf "$work/etcd"
  begin=$(now)
  bin/kube-apiserver --secure-port=17443 --bind-address=127.0.0.1 --advertise-address=127.0.0.1 --authorization-mode=Node,RBAC \
    --client-ca-file="$p/ca.crt" --tls-cert-file="$p/apiserver.crt" --tls-private-key-file="$p/apiserver.key" \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local --service-account-key-file="$p/sa.pub" --service-account-signing-key-file="$p/sa.key" \
    --service-cluster-ip-range=10.96.0.0/12 --etcd-data-dir="$work/etcd" --etcd-listen-client-url=https://127.0.0.1:17379 --etcd-listen-peer-url=https://127.0.0.1:17380 \
    --etcd-server-cert-file="$p/etcd/server.crt" --etcd-server-key-file="$p/etcd/server.key" --etcd-server-ca-file="$p/etcd/ca.crt" \
    --etcd-peer-cert-file="$p/etcd/peer.crt" --etcd-peer-key-file="$p/etcd/peer.key" --etcd-peer-ca-file="$p/etcd/ca.crt" >"$work/api.log" 2>&1 &
  api=$!
  until [ "$(curl -sk -o /dev/null -w '%{http_code}' https://127.0.0.1:17443/readyz)" = 200 ]; do
    kill -0 "$api" 2>/dev/null || { tail -5 "$work/api.log" >&2; exit 1; }
    sleep 0.02
  done
  echo "kube-apiserver, exec to /readyz, empty etcd in it (run $run): $(since "$begin") s   (upstream: 2.3 s, etcd already up)"
  kill "$api"
  wait "$api" 2>/dev/null || true
  api=
done

begin=$(now)
bin/ctl init --schedulable --skip-token-print >"$work/init.log" 2>&1 || { tail -20 "$work/init.log" >&2; exit 1; }
export KUBECONFIG=/etc/kubernetes/admin.conf
until bin/ctl wait --for=condition=Ready node --all --timeout=1s >/dev/null 2>&1; do sleep 0.1; done
echo "ctl init to node Ready: $(since "$begin") s"
until bin/ctl wait -n kube-system --for=condition=Available deployment/coredns --timeout=1s >/dev/null 2>&1; do sleep 0.1; done
echo "ctl init to CoreDNS Ready: $(since "$begin") s"
echo "PROGRESS settling for $settle s"
sleep "$settle"

# The kernel's own figure, read from outside: asking a component makes it larger for a while. (The bench runs where no other cluster does.)
declare -A upstream=([kube-apiserver]=321 [kube-controller-manager]=117 [kube-scheduler]=67 [kubelet]=88 [kube-proxy]=59)
sum=0
printf '\n%-26s %10s %10s %10s %7s\n' BINARY "RSS MiB" "anon MiB" UPSTREAM RATIO
for c in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy; do
  pid=$(pgrep -x -o "${c:0:15}") || { echo "$c does not run" >&2; exit 1; }
  read -r kib anon < <(awk '/^VmRSS:/ {r = $2} /^RssAnon:/ {a = $2} END {print r, a}' "/proc/$pid/status")
  sum=$((sum + kib))
  awk -v n="$c" -v k="$kib" -v a="$anon" -v u="${upstream[$c]}" 'BEGIN {printf "%-26s %10.1f %10.1f %10d %6.0f%%\n", n, k / 1024, a / 1024, u, 100 * k / 1024 / u}'
done
awk -v k="$sum" 'BEGIN {printf "%-26s %10.1f %10s %10d %6.0f%%\n", "sum", k / 1024, "", 652, 100 * k / 1024 / 652}'
echo "(upstream: kube-apiserver with its etcd, 277 + 44 MiB)"
