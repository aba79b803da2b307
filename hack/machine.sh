#!/bin/bash
# machine.sh COMMAND... runs a command in the machine that `make machine` keeps up; machine.sh kubelet builds the kubelet,
# puts it into the machine and restarts it there.
set -eu
cd "$(dirname "$0")/.."
state=${FLAGSHIP_E2E_HOLD:-$PWD/bin/machine.pid}
[ -f "$state" ] || { echo "machine.sh: no machine is up: make machine" >&2; exit 1; }
enter() {
  env -i PATH=/opt/src:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" \
    nsenter -t "$(cat "$state")" -m -u -i -n -p -C -r -w -- "$@"
}
if [ "${1:-}" = kubelet ] && [ $# -eq 1 ]; then
  make --no-print-directory kubelet
  enter sh -c 'bin=$(systemctl show -p ExecStart --value kubelet | sed "s/^{ path=\([^ ]*\) .*/\1/"); cp /opt/src/kubelet "$bin.new" && mv "$bin.new" "$bin" && systemctl restart kubelet && systemctl is-active kubelet'
  exit
fi
enter "$@"
