#!/bin/bash
# fresh.sh [COMMAND...] runs `make up` and `make down`, or COMMAND, in a clone of this checkout's HEAD on a machine that has nothing but Debian 12, git, make and
# this machine's Go: the proof that the targets install what they need. Go's caches are this machine's (FRESH_CACHES=no: none).
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" -eq 0 ] || { echo "make fresh: run it as root: it boots a machine" >&2; exit 1; }
[ $# -gt 0 ] || set -- sh -c 'make up && make down'
hack/deps.sh test
name=fsfresh
base=/var/cache/flagship/fresh-1
dir=$(mktemp -d /var/cache/flagship/$name-XXXX)
subnet=198.18.71
cleanup() {
  [ -z "${init:-}" ] || kill -s RTMIN+4 "$init" 2>/dev/null || true
  [ -z "${boot:-}" ] || timeout 60 tail --pid="$boot" -f /dev/null || kill -9 "$boot" 2>/dev/null || true
  iptables -t nat -D POSTROUTING -s $subnet.0/30 ! -d $subnet.0/30 -j MASQUERADE 2>/dev/null || true
  iptables -D FORWARD -i ve-$name -j ACCEPT 2>/dev/null || true
  iptables -D FORWARD -o ve-$name -j ACCEPT 2>/dev/null || true
  umount -l "$dir/root" 2>/dev/null || true
  rm -rf "$dir"
}
trap cleanup EXIT
if [ ! -d $base ]; then
  mkdir -p /var/cache/flagship
  rm -rf "$base.tmp"
  hack/step.sh "make the fresh machine's root" sh -c "debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,git,make,ca-certificates bookworm $base.tmp >/dev/null"
  chmod 755 "$base.tmp"
  mv "$base.tmp" $base
fi
mkdir "$dir"/{root,upper,work,containerd}
mount -t overlay overlay -o "lowerdir=$base,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
cp /etc/resolv.conf "$dir/root/etc/resolv.conf"
cp /etc/apt/sources.list.d/* "$dir/root/etc/apt/sources.list.d/" 2>/dev/null && : >"$dir/root/etc/apt/sources.list"
git clone -q . "$dir/root/root/flagship"
binds=(--bind-ro="$(go env GOROOT):/usr/local/go" --bind="$dir/containerd:/var/lib/containerd")
mkdir -p "$dir/root/usr/local/go"
environment=(PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb GOFLAGS=-buildvcs=false)
if [ "${FRESH_CACHES:-yes}" = yes ]; then
  binds+=(--bind="$(go env GOMODCACHE):/root/go/pkg/mod" --bind="$(go env GOCACHE):/root/.cache/go-build")
fi
ip link del ve-$name 2>/dev/null || true # of a run that was killed
systemd-nspawn -b -D "$dir/root" --machine=$name --capability=all --system-call-filter='@keyring bpf' --keep-unit --register=no --resolv-conf=off --network-veth "${binds[@]}" >"$dir/console" 2>&1 </dev/null &
boot=$!
for _ in $(seq 120); do
  init=$(pgrep -P $boot | head -1 || true)
  [ -z "$init" ] && kill -0 $boot 2>/dev/null || break
  sleep 0.5
done
[ -n "$init" ] || { cat "$dir/console" >&2; echo "fresh.sh: the machine did not start" >&2; exit 1; }
inside() { nsenter -t "$init" -m -u -i -n -p -C -r -w -- env -i "${environment[@]}" "$@"; }
for _ in $(seq 120); do
  case "$(inside systemctl is-system-running 2>/dev/null)" in running|degraded) break ;; esac
  sleep 0.5
done
inside true 2>/dev/null || { cat "$dir/console" >&2; echo "fresh.sh: the machine did not boot" >&2; exit 1; }
ip addr replace $subnet.1/30 dev ve-$name
ip link set ve-$name up
echo 1 >/proc/sys/net/ipv4/ip_forward
iptables -t nat -I POSTROUTING -s $subnet.0/30 ! -d $subnet.0/30 -j MASQUERADE
iptables -I FORWARD -i ve-$name -j ACCEPT
iptables -I FORWARD -o ve-$name -j ACCEPT
# (minbase has no ip: the host's network tool sets the machine's side.)
nsenter -t "$init" -n sh -ec "ip addr add $subnet.2/30 dev host0; ip link set host0 up; ip route add default via $subnet.1"
inside sh -c 'for c in pids devices memory cpu cpuset blkio cpuacct freezer; do [ -d /sys/fs/cgroup/$c ] && mount -o remount,bind,rw /sys/fs/cgroup/$c; done; true'
inside env -C /root/flagship "$@"
