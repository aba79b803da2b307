#!/bin/bash
# swap.sh swap COMPONENT runs our cluster with one component of upstream's in it, swap.sh swap-in COMPONENT upstream's cluster (made by its kubeadm) with one of
# ours; then the tests of hack/swap/COMPONENT.txt. swap.sh all makes all ten and the page, swap.sh page the page of the last run of each. A cluster has a machine
# of its own (hack/nspawn.sh), which is gone at the end. What is left of a run is in bin/swap/DIRECTION-COMPONENT.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/nspawn.sh
components=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy)
tag=v1.37.2
procs=${PROCS:-4} running=

usage() {
  echo "usage: swap.sh swap|swap-in ${components[*]} | all | page" >&2
  exit 2
}

# number is a digit for each combination, so that several can run beside each other.
number() { # number DIRECTION COMPONENT
  local i n=0
  [ "$1" = swap ] || n=5
  for i in "${!components[@]}"; do
    [ "${components[i]}" != "$2" ] || { echo $((n + i)); return; }
  done
  usage
}

note() { echo "$1: $2" >>"$out/run"; }
change() { note change "$1"; }

# stage lays the programs and images of one side into a folder, with one component of the other's.
stage() { # stage BASE OTHER COMPONENT
  local c
  rm -rf "$stage"
  mkdir -p "$stage/images"
  for c in "${components[@]}" ctl kubeadm kubectl; do [ ! -e "$1/$c" ] || cp "$1/$c" "$stage/"; done
  cp "$1"/images/images.txt "$1"/images/*.tar "$stage/images/"
  cp bin/upstream/etcd "$2/$3" "$stage/"
  [ "$3" = kubelet ] || cp "$2/images/registry.k8s.io_$3_$tag.tar" "$stage/images/"
}

in_machine() { timeout "${limit:-300}" env MACHINE="$dir" bash -c '. hack/nspawn.sh; machine_run "$MACHINE" "$@"' in_machine "$@"; }

boot() {
  machine_mount "$dir" "$root"
  echo swap >"$dir/root/etc/hostname"
  # Nothing listens there: names that are not the cluster's fail at once.
  echo "nameserver $subnet.1" >"$dir/root/etc/resolv.conf"
  machine_mirrors "$dir"
  machine_boot $name "$dir" $subnet --bind-ro="$stage:/opt/src" --hostname=swap
}

# for_kubelet shows upstream's kubelet what it has to find in any container: the kernel's log, and the kernel settings that it else writes; they are the whole
# host's, and read-only in the machine.
for_kubelet() {
  note machine "upstream's kubelet: /dev/kmsg is made, and vm.overcommit_memory, kernel.panic and kernel.panic_on_oops are as it wants them by files over those of /proc/sys, which are the whole host's and read-only in a container"
  in_machine sh -ec '[ -e /dev/kmsg ] || mknod /dev/kmsg c 1 11
    mkdir -p /run/tunables
    for s in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1; do
      f=/run/tunables/$(basename ${s%=*})
      echo ${s#*=} >$f
      mount --bind $f /proc/sys/${s%=*}
    done'
}

# common is what kubelet and kube-proxy of both sides are told here; the arguments are more lines of the kubelet's.
common() {
  note machine "KubeletConfiguration evictionHard and imageGCHighThresholdPercent: the disk is the whole host's, which may be fuller than a node's"
  note machine "KubeProxyConfiguration conntrack.maxPerCore: 0: nf_conntrack_max is the whole host's, and read-only in a container"
  cat <<END
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
END
  printf -- '%s\n' "$@" ---
  cat <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
conntrack: {maxPerCore: 0}
END
}

# by_ctl makes our cluster.
by_ctl() {
  local config=$dir/root/root/ctl.yaml
  printf 'apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n' >"$config"
  if [ "$component" = kube-apiserver ]; then
    change "etcd 3.7.0 runs beside it (our kube-apiserver has it inside): ClusterConfiguration etcd.external, for which ctl writes --etcd-servers in place of the --etcd-* flags of the etcd inside"
    printf 'etcd: {external: {endpoints: ["http://127.0.0.1:2379"]}}\n' >>"$config"
    in_machine systemd-run --quiet --unit=etcd /opt/src/etcd --name=swap --data-dir=/var/lib/etcd --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379
  fi
  common >>"$config"
  [ "$component" != kubelet ] || for_kubelet
  in_machine /opt/src/ctl init --schedulable --skip-token-print --config=/root/ctl.yaml
}

# by_kubeadm makes upstream's cluster: what kubeadm's packages and instructions have a person do, and kubeadm init.
by_kubeadm() {
  local config=$dir/root/root/kubeadm.yaml cidr
  note machine "swap-in: containerd's sandbox_image and restrict_oom_score_adj (this host may not lower OOM scores), cgroupDriver: cgroupfs as containerd 1.6 has it, failCgroupV1: false, preflight errors ignored, all as for upstream's components alone"
  sed -i "s|^  \[plugins.\"io.containerd.grpc.v1.cri\"\]|&\n    sandbox_image = \"registry.k8s.io/pause:3.10.2\"\n    restrict_oom_score_adj = true|" "$dir/root/etc/containerd/config.toml"
  in_machine sh -ec 'systemctl restart containerd
    cp /opt/src/kubelet /opt/src/kubeadm /usr/bin/
    sysctl -qw net.ipv4.ip_forward=1
    for t in /opt/src/images/*.tar; do ctr -n k8s.io images import $t >/dev/null; done'
  mkdir -p "$dir/root/etc/systemd/system/kubelet.service.d"
  sed 's|{{.KubeletBinary}}|/usr/bin/kubelet|' manifests/systemd/kubelet.service >"$dir/root/etc/systemd/system/kubelet.service"
  sed 's|{{.KubeletBinary}}|/usr/bin/kubelet|' manifests/systemd/10-kubeadm.conf >"$dir/root/etc/systemd/system/kubelet.service.d/10-kubeadm.conf"
  in_machine sh -c 'systemctl daemon-reload; systemctl enable kubelet' 2>/dev/null
  cat >"$config" <<END
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: $address}
nodeRegistration: {criSocket: "unix:///run/containerd/containerd.sock", imagePullPolicy: Never, taints: []}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: $tag
networking: {podSubnet: 10.244.0.0/16}
dns: {imageTag: v1.15.0}
END
  common "cgroupDriver: cgroupfs" "failCgroupV1: false" >>"$config"
  [ "$component" = kubelet ] || for_kubelet
  limit=600 in_machine kubeadm init --config=/root/kubeadm.yaml --ignore-preflight-errors=all --skip-token-print
  kube wait --for='jsonpath={.spec.podCIDR}' node --all --timeout=120s
  cidr=$(kube get nodes -o 'jsonpath={.items[0].spec.podCIDR}')
  mkdir -p "$dir/root/etc/cni/net.d"
  sed "s|{{.PodCIDR}}|$cidr|" manifests/network/10-flagship.conflist >"$dir/root/etc/cni/net.d/10-flagship.conflist"
}

kube() { timeout 300 "$kubectl" --kubeconfig="$dir/root/etc/kubernetes/admin.conf" "$@"; }

await() {
  kube wait --for=condition=Ready node --all --timeout=120s
  kube rollout status -n kube-system daemonset/kube-proxy --timeout=180s
  kube rollout status -n kube-system deployment/coredns --timeout=180s
}

# verify compares what runs with what was staged, byte for byte.
verify() {
  local c have
  for c in "${components[@]}"; do
    have=$(in_machine sh -c 'sha256sum </proc/$(pgrep -of "^([^ ]*/)?$0( |\$)")/exe' "$c")
    if [ "$have" != "$(sha256sum <"$stage/$c")" ]; then
      echo "the $c that runs is not the one of $stage" >&2
      return 1
    fi
  done
  note version "upstream: $tag, etcd 3.7.0; ours: the commit of each row; runtime: $(kube get nodes -o 'jsonpath={.items[0].status.nodeInfo.containerRuntimeVersion}'), kernel $(kube get nodes -o 'jsonpath={.items[0].status.nodeInfo.kernelVersion}')"
}

# why is the last line of a log that speaks of an error, or its last.
why() { { grep -iE '^(\S+: )?error|did not|is not|failed' "$1" || grep -v '^\s*$' "$1"; } | tail -1; }

# collect keeps what tells of a failure.
collect() {
  in_machine journalctl -u kubelet -u etcd -u containerd --no-pager >"$out/journal.log" 2>/dev/null || true
  rm -rf "$out/pods"
  cp -r "$dir/root/var/log/pods" "$out/pods" 2>/dev/null || true
  kube get pods -A -o wide >"$out/objects.log" 2>&1 || true
  kube get events -A --sort-by=.lastTimestamp >>"$out/objects.log" 2>&1 || true
}

cluster() {
  boot
  "by_$by"
  await
  verify
}

# run makes one combination. It fails where tests do, or where there is no cluster.
run() { # run DIRECTION COMPONENT
  local direction=$1 base=bin other=bin/upstream
  by=ctl kubectl=bin/ctl
  if [ "$direction" = swap-in ]; then base=bin/upstream other=bin by=kubeadm kubectl=bin/upstream/kubectl; fi
  rm -rf "$out"
  mkdir -p "$out"
  note date "$(date -u '+%Y-%m-%d %H:%M UTC')"
  note commit "$(git describe --always --dirty --abbrev=12)"
  stage $base $other "$component"
  [ ! -d "$dir" ] || machine_stop "$dir" # of a run that was killed
  local rc=0
  set +e # (in what an || follows, set -e would not hold)
  (set -e; cluster) >"$out/cluster.log" 2>&1 9>&- &
  running=$!
  hack/step.sh "$direction $component: make the cluster" tail --pid=$running -f /dev/null
  wait $running
  rc=$?
  set -e
  if [ $rc -ne 0 ]; then
    note error "the cluster did not come up: $(why "$out/cluster.log")"
    tail -20 "$out/cluster.log" >&2
  else
    bin/tools/conformance -host=false -nodes "$machines" -kubeconfig "$dir/root/etc/kubernetes/admin.conf" -kubectl "$kubectl" -tests "hack/swap/$component.txt" \
      -procs "$procs" -timeout 25m -out "$out" > >(tee "$out/tests.log" | sed -un '/^PROGRESS/p') 2>&1 9>&- &
    running=$!
    wait $running || rc=$?
    [ $rc -ne 1 ] || note error "$(tail -1 "$out/tests.log")"
  fi
  collect
  machine_stop "$dir"
  bin/tools/dropin -show "$direction-$component"
  return $rc
}

main() {
  [ "$(id -u)" -eq 0 ] || { echo "make swap: run it as root: it boots a machine" >&2; exit 1; }
  hack/deps.sh test
  local n
  n=$(number "$1" "$2")
  component=$2 name=fsswap$n subnet=198.18.9$n address=198.18.9$n.2 out=bin/swap/$1-$2
  machines=$cache/swap-$n
  dir=$machines/$name stage=$machines/stage
  mkdir -p "$machines" bin/swap
  exec 9>"$machines/lock"
  flock -n 9 || { echo "make swap: the same runs on this host" >&2; exit 1; }
  # The root of the cluster test's machines (hack/e2e/machine_test.go).
  root=$(machine_root rootfs-2 systemd,systemd-sysv,udev,dbus,iproute2,procps,kmod,containerd,runc,iptables,nftables,conntrack,containernetworking-plugins,ca-certificates,curl)
  trap 'kill $running 2>/dev/null || true; machine_stop "$dir"; rm -rf "$machines"' EXIT
  trap 'exit 130' INT TERM
  run "$1" "$2"
}

# all makes each combination in a process of its own, and the page.
all() {
  local d c rc=0
  for d in swap swap-in; do
    for c in "${components[@]}"; do hack/swap.sh $d "$c" || rc=$?; done
  done
  bin/tools/dropin
  return $rc
}

case ${1:-} in
swap | swap-in) [ $# -eq 2 ] || usage; main "$@" ;;
all) all ;;
page) bin/tools/dropin ;;
*) usage ;;
esac
