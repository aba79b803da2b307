#!/bin/bash
# nodes.sh up N | down: machines node-2 … node-N, each with a systemd and a containerd of its own, which join the cluster of this machine.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/nspawn.sh
nodes=$cache/nodes

join() { # join NUMBER
  local n=$1 dir=$nodes/node-$1 subnet=198.18.$((80 + $1)) command server
  if [ -d "$dir" ]; then
    machine_run "$dir" true 2>/dev/null && return
    machine_stop "$dir"
  fi
  machine_mount "$dir" "$root"
  echo "node-$n" >"$dir/root/etc/hostname"
  cp /etc/resolv.conf "$dir/root/etc/resolv.conf"
  machine_mirrors "$dir"
  machine_boot "fsnode$n" "$dir" "$subnet" --bind-ro="$PWD/bin:/opt/src" --hostname="node-$n"
  command=$(bin/ctl token create --print-join-command)
  server=$(sed -E 's/^ctl join ([^:]+):.*/\1/' <<<"$command")
  # The control plane's address is one hop away and still on the link: this host answers for it.
  machine_run "$dir" ip route replace "$server" dev host0
  hack/step.sh "join node-$n" nsenter -t "$(cat "$dir/pid")" -m -u -i -n -p -C -r -w -- env -i HOME=/root PATH=/opt/src:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin $command
  bin/ctl wait --for=condition=Ready "node/node-$n" --timeout=120s
}

case ${1:-} in
up)
  hack/deps.sh test
  export KUBECONFIG=/etc/kubernetes/admin.conf
  # The root of the cluster test's machines (hack/e2e/machine_test.go).
  root=$(machine_root rootfs-2 systemd,systemd-sysv,udev,dbus,iproute2,procps,kmod,containerd,runc,iptables,nftables,conntrack,containernetworking-plugins,ca-certificates,curl)
  for n in $(seq 2 "$2"); do join "$n"; done
  ;;
down)
  for dir in "$nodes"/node-*; do
    [ -d "$dir" ] || continue
    echo "PROGRESS stopping ${dir##*/}"
    machine_run "$dir" /opt/src/ctl reset --force >/dev/null 2>&1 || true
    machine_stop "$dir"
  done
  rmdir "$nodes" 2>/dev/null || true
  ;;
*)
  echo "usage: nodes.sh up N | down" >&2
  exit 2
  ;;
esac
