#!/bin/bash
# fresh.sh [COMMAND...] runs `make up` and `make down`, or COMMAND, in a clone of this checkout's HEAD on a machine that has nothing but Debian 12, git, make and
# this machine's Go: the proof that the targets install what they need. Go's caches are this machine's (FRESH_CACHES=no: none).
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/nspawn.sh
[ "$(id -u)" -eq 0 ] || { echo "make fresh: run it as root: it boots a machine" >&2; exit 1; }
[ $# -gt 0 ] || set -- sh -c 'make up && make down'
hack/deps.sh test
name=fsfresh subnet=198.18.71
root=$(machine_root fresh-1 systemd,systemd-sysv,dbus,git,make,ca-certificates)
dir=$(mktemp -d $cache/$name-XXXX)
cleanup() {
  machine_stop "$dir"
  iptables -t nat -D POSTROUTING -s $subnet.0/30 ! -d $subnet.0/30 -j MASQUERADE 2>/dev/null || true
  iptables -D FORWARD -i ve-$name -j ACCEPT 2>/dev/null || true
  iptables -D FORWARD -o ve-$name -j ACCEPT 2>/dev/null || true
}
trap cleanup EXIT
machine_mount "$dir" "$root"
cp /etc/resolv.conf "$dir/root/etc/resolv.conf"
cp /etc/apt/sources.list.d/* "$dir/root/etc/apt/sources.list.d/" 2>/dev/null && : >"$dir/root/etc/apt/sources.list"
git clone -q . "$dir/root/root/flagship"
mkdir -p "$dir/root/usr/local/go"
binds=(--bind-ro="$(go env GOROOT):/usr/local/go")
if [ "${FRESH_CACHES:-yes}" = yes ]; then
  binds+=(--bind="$(go env GOMODCACHE):/root/go/pkg/mod" --bind="$(go env GOCACHE):/root/.cache/go-build")
fi
machine_boot $name "$dir" $subnet "${binds[@]}"
# Its way to Debian's packages and Go's modules.
echo 1 >/proc/sys/net/ipv4/ip_forward
iptables -t nat -I POSTROUTING -s $subnet.0/30 ! -d $subnet.0/30 -j MASQUERADE
iptables -I FORWARD -i ve-$name -j ACCEPT
iptables -I FORWARD -o ve-$name -j ACCEPT
machine_run "$dir" env -C /root/flagship "$@"
