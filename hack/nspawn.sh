# nspawn.sh is sourced: machines with a systemd and a network of their own on this host (systemd-nspawn over Debian roots in /var/cache/flagship), for the
# scripts that need more than one. A machine NAME has the link ve-NAME to this host and two addresses of a /30: .1 here, .2 there.

cache=/var/cache/flagship

# machine_root NAME PACKAGES makes a root with these packages, once, and prints its folder.
machine_root() {
  local root=$cache/$1
  if [ ! -d "$root" ]; then
    mkdir -p $cache
    rm -rf "$root.tmp"
    hack/step.sh "make the root of machines ($1)" sh -c "debootstrap --variant=minbase --include=$2 bookworm $root.tmp >/dev/null" >&2
    chmod 755 "$root.tmp"
    mv "$root.tmp" "$root"
  fi
  echo "$root"
}

# machine_mount DIR LOWER lays a throw-away layer over a root: DIR/root.
machine_mount() {
  mkdir -p "$1"/{root,upper,work,containerd}
  mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" "$1/root"
}

# machine_exec NAME ARGUMENT... becomes systemd-nspawn. Where cgroups are v1 it goes into cgroups of its own first, which become the root of what the machine
# sees: a kubelet removes the cgroups of pods that it does not know, and those of another cluster on this host are such.
machine_exec() {
  local name=$1 c
  shift
  for c in pids devices memory cpu cpuset blkio cpuacct freezer; do
    c=/sys/fs/cgroup/$c
    [ -e "$c/tasks" ] || continue
    mkdir -p "$c/machine-$name"
    if [ -e "$c/cpuset.cpus" ]; then
      cat "$c/cpuset.cpus" >"$c/machine-$name/cpuset.cpus"
      cat "$c/cpuset.mems" >"$c/machine-$name/cpuset.mems"
    fi
    echo $$ >"$c/machine-$name/cgroup.procs"
  done
  exec systemd-nspawn --machine="$name" --capability=all --system-call-filter='@keyring bpf' --keep-unit --register=no --network-veth "$@"
}

# machine_cgroups_remove NAME removes the cgroups of a machine that has ended.
machine_cgroups_remove() {
  local c
  for c in /sys/fs/cgroup/*/machine-"$1"; do
    [ ! -d "$c" ] || find "$c" -depth -type d -exec rmdir {} \; 2>/dev/null || true
  done
}

# machine_mirrors DIR lets DIR/root's containerd read mirrors of registries from files: the conformance program sets one.
machine_mirrors() {
  sed -i '/\[plugins."io.containerd.grpc.v1.cri".cni\]/i \    [plugins."io.containerd.grpc.v1.cri".registry]\n      config_path = "/etc/containerd/certs.d"' "$1/root/etc/containerd/config.toml"
}

# machine_boot NAME DIR SUBNET [NSPAWN-ARGUMENT...] boots DIR/root and gives it its network; DIR/pid is its init, DIR/host
# this host's address in that network.
machine_boot() {
  local name=$1 dir=$2 subnet=$3 boot init=
  shift 3
  ip link del "ve-$name" 2>/dev/null || true # of a run that was killed
  nohup bash -c '. "$0"; machine_exec "$@"' "${BASH_SOURCE[0]}" "$name" -b -D "$dir/root" --resolv-conf=off --bind="$dir/containerd:/var/lib/containerd" "$@" \
    >"$dir/console" 2>&1 </dev/null &
  boot=$!
  echo "$name" >"$dir/name"
  for _ in $(seq 120); do
    init=
    # (before that, its children are machine_exec's.)
    [ "$(cat /proc/$boot/comm 2>/dev/null)" != systemd-nspawn ] || init=$(pgrep -P $boot | head -1 || true)
    [ -z "$init" ] && kill -0 $boot 2>/dev/null || break
    sleep 0.5
  done
  echo "$init" >"$dir/pid"
  echo "$boot" >"$dir/nspawn"
  echo "$subnet.1" >"$dir/host"
  for _ in $(seq 120); do
    case "$(machine_run "$dir" systemctl is-system-running 2>/dev/null)" in running | degraded) break ;; esac
    sleep 0.5
  done
  machine_run "$dir" true 2>/dev/null || { cat "$dir/console" >&2; printf '\nthe machine %s did not boot\n' "$name" >&2; return 1; }
  ip addr replace "$subnet.1/30" dev "ve-$name"
  ip link set "ve-$name" up
  # (a minimal root has no ip: the host's sets the machine's side.)
  nsenter -t "$init" -n sh -ec "ip addr add $subnet.2/30 dev host0; ip link set host0 up; ip route add default via $subnet.1"
  machine_run "$dir" sh -c 'for c in pids devices memory cpu cpuset blkio cpuacct freezer; do [ -d /sys/fs/cgroup/$c ] && mount -o remount,bind,rw /sys/fs/cgroup/$c; done; true'
}

# machine_run DIR COMMAND... runs a command in the machine.
machine_run() {
  local dir=$1
  shift
  nsenter -t "$(cat "$dir/pid")" -m -u -i -n -p -C -r -w -- env -i HOME=/root LANG=C.UTF-8 TERM=dumb \
    PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin GOFLAGS=-buildvcs=false "$@"
}

# machine_stop DIR powers the machine off and throws away what it wrote.
machine_stop() {
  local boot
  [ -s "$1/pid" ] && kill -s RTMIN+4 "$(cat "$1/pid")" 2>/dev/null || true
  boot=$(cat "$1/nspawn" 2>/dev/null || true)
  if [ -n "$boot" ] && kill -0 "$boot" 2>/dev/null; then
    timeout 60 tail --pid="$boot" -f /dev/null || kill -9 "$boot" 2>/dev/null || true
  fi
  machine_cgroups_remove "$(cat "$1/name" 2>/dev/null)"
  umount -l "$1/root" 2>/dev/null || true
  rm -rf "$1"
}
