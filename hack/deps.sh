#!/bin/bash
# deps.sh [test | conformance] installs from Debian's packages what a cluster needs and this machine has not, and says so.
set -euo pipefail
need=()
want() { # want PACKAGE FILE...: any one of the files is enough
  local pkg=$1 f
  shift
  for f in "$@"; do [ -e "$f" ] && return 0; done
  need+=("$pkg")
}
want containerd /usr/bin/containerd /usr/local/bin/containerd
want runc /usr/sbin/runc /usr/bin/runc /usr/local/sbin/runc
want containernetworking-plugins /usr/lib/cni/bridge /opt/cni/bin/bridge
want iptables /usr/sbin/iptables
want nftables /usr/sbin/nft
want conntrack /usr/sbin/conntrack
want iproute2 /usr/sbin/ip /sbin/ip /usr/bin/ip
want procps /usr/bin/ps
want mount /usr/bin/mount
want ca-certificates /etc/ssl/certs/ca-certificates.crt
want busybox-static /usr/bin/busybox /bin/busybox
want bash-static /usr/bin/bash-static /bin/bash-static
if [ "${1:-}" = test ]; then
  want debootstrap /usr/sbin/debootstrap
  want systemd-container /usr/bin/systemd-nspawn
  want procps /usr/bin/pgrep
fi
if [ "${1:-}" = conformance ]; then # the images' system is made by debootstrap
  want debootstrap /usr/sbin/debootstrap
fi
if [ ${#need[@]} -eq 0 ]; then
  exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "missing packages: ${need[*]}; run as root, or: apt-get install ${need[*]}" >&2
  exit 1
fi
echo "PROGRESS installing from Debian's packages: ${need[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
apt-get update -qq >"$log" 2>&1 || { cat "$log" >&2; echo "apt-get update failed" >&2; exit 1; }
apt-get install -y -qq --no-install-recommends "${need[@]}" >"$log" 2>&1 || { cat "$log" >&2; echo "apt-get install ${need[*]} failed" >&2; exit 1; }
rm -f "$log"
