package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// CgroupParent is where pods have their cgroups that no kubelet makes.
const CgroupParent = "/flagship-lab"

// bridge is the network of a lab's pods.
const bridge = "flagship-lab0"

// Runtime is a containerd of the lab's own, beside whichever else runs on the machine.
type Runtime struct {
	// Endpoint is its URL.
	Endpoint string
	Proc     *Process
	CRI      runtimeapi.RuntimeServiceClient
	conn     *grpc.ClientConn
}

// NewRuntime starts one whose sandboxes are of an image that is in the archive. Close ends all that runs in it.
func (l *Lab) NewRuntime(ctx context.Context, sandbox, archive string) (*Runtime, error) {
	dir := l.Path("containerd")
	socket := filepath.Join(dir, "containerd.sock")
	// Where OOM scores cannot be lowered, containers do not start without the restriction; elsewhere it changes nothing that is measured.
	config := fmt.Sprintf(`version = 2
root = %q
state = %q
[grpc]
  address = %q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = %q
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
`, dir+"/root", dir+"/state", socket, sandbox, cniPlugins(), dir+"/net.d")
	network := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"lab","plugins":[{"type":"bridge","bridge":%q,"isGateway":true,"hairpinMode":true,"ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":"10.97.0.0/16"}]]}}]}`,
		bridge, dir+"/addresses")
	if err := os.MkdirAll(dir+"/net.d", 0o755); err != nil {
		return nil, err
	}
	for name, text := range map[string]string{"config.toml": config, "net.d/lab.conflist": network} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	r := &Runtime{Endpoint: "unix://" + socket}
	var err error
	if r.Proc, err = l.Start(ctx, "containerd", "containerd", "--config="+dir+"/config.toml"); err != nil {
		return nil, err
	}
	if r.conn, err = grpc.NewClient(r.Endpoint, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		r.Proc.Stop()
		return nil, err
	}
	r.CRI = runtimeapi.NewRuntimeServiceClient(r.conn)
	if err := r.prepare(ctx, socket, archive); err != nil {
		return nil, errors.Join(fmt.Errorf("containerd: %w; the end of its log:\n%s", err, r.Proc.Tail()), r.Close())
	}
	return r, nil
}

// cniPlugins is where Debian, or else everybody, has them.
func cniPlugins() string {
	if _, err := os.Stat("/usr/lib/cni"); err == nil {
		return "/usr/lib/cni"
	}
	return "/opt/cni/bin"
}

// prepare waits until the runtime answers and gives it the images of an archive.
func (r *Runtime) prepare(ctx context.Context, socket, archive string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := r.CRI.Version(ctx, &runtimeapi.VersionRequest{}, grpc.WaitForReady(true)); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "ctr", "--address="+socket, "--namespace=k8s.io", "images", "import", archive).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ctr images import %s: %w: %s", archive, err, out)
	}
	return nil
}

// Empty ends and removes all sandboxes.
func (r *Runtime) Empty(ctx context.Context) error {
	list, err := r.CRI.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return err
	}
	for _, s := range list.Items {
		if _, err := r.CRI.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: s.Id}); err != nil {
			return err
		}
		if _, err := r.CRI.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: s.Id}); err != nil {
			return err
		}
	}
	return nil
}

// Close ends it, all that runs in it and its network.
func (r *Runtime) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := errors.Join(r.Empty(ctx), r.conn.Close())
	r.Proc.Stop()
	_ = exec.CommandContext(ctx, "ip", "link", "del", bridge).Run()
	for _, name := range []string{CgroupParent, "/kubepods"} {
		removeCgroups(name)
	}
	return err
}

// removeCgroups removes a cgroup that no process is in, and those in it, from every hierarchy.
func removeCgroups(name string) {
	here, _ := filepath.Glob("/sys/fs/cgroup" + name)
	each, _ := filepath.Glob("/sys/fs/cgroup/*" + name)
	for _, root := range append(here, each...) {
		var dirs []string
		_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, dir := range slices.Backward(dirs) {
			_ = os.Remove(dir)
		}
	}
}
