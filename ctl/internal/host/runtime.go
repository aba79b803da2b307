package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"flagship/manifests"
)

// DefaultSocket is containerd's.
const DefaultSocket = "unix:///run/containerd/containerd.sock"

const criTimeout = 2 * time.Minute

// sockets are where runtimes are looked for.
func sockets() []string {
	return []string{DefaultSocket, "unix:///var/run/crio/crio.sock", "unix:///run/cri-dockerd.sock"}
}

// Runtime is a connection to the container runtime.
type Runtime struct {
	Endpoint string
	conn     *grpc.ClientConn
	runtime  runtimeapi.RuntimeServiceClient
	images   runtimeapi.ImageServiceClient
}

// Info is what the runtime says about itself.
type Info struct {
	Name, Version string
	// SandboxImage is the image of sandboxes, empty where the runtime does not say it.
	SandboxImage                      string
	RestrictOOM, SystemdCgroup, Known bool
	CNIBin, CNIConf                   string
}

// Connect connects to a runtime that answers: the given one, or the first of the usual.
func Connect(ctx context.Context, endpoint string) (*Runtime, error) {
	tries := sockets()
	if endpoint != "" {
		if !strings.Contains(endpoint, "://") {
			endpoint = "unix://" + endpoint
		}
		tries = []string{endpoint}
	}
	var errs []error
	for _, e := range tries {
		if _, err := os.Stat(strings.TrimPrefix(e, "unix://")); err != nil {
			errs = append(errs, fmt.Errorf("no socket at %s", strings.TrimPrefix(e, "unix://")))
			continue
		}
		conn, err := grpc.NewClient(e, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r := &Runtime{Endpoint: e, conn: conn, runtime: runtimeapi.NewRuntimeServiceClient(conn), images: runtimeapi.NewImageServiceClient(conn)}
		short, cancel := context.WithTimeout(ctx, 3*time.Second)
		_, err = r.runtime.Version(short, &runtimeapi.VersionRequest{})
		cancel()
		if err == nil {
			return r, nil
		}
		_ = conn.Close()
		errs = append(errs, fmt.Errorf("%s: %w", e, err))
	}
	return nil, errors.Join(errs...)
}

// Close ends the connection.
func (r *Runtime) Close() { _ = r.conn.Close() }

// Info asks the runtime about itself.
func (r *Runtime) Info(ctx context.Context) (Info, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	v, err := r.runtime.Version(ctx, &runtimeapi.VersionRequest{})
	if err != nil {
		return Info{}, err
	}
	info := Info{Name: v.RuntimeName, Version: v.RuntimeVersion}
	st, err := r.runtime.Status(ctx, &runtimeapi.StatusRequest{Verbose: true})
	if err != nil {
		return info, err
	}
	var cfg struct {
		SandboxImage        string `json:"sandboxImage"`
		RestrictOOMScoreAdj *bool  `json:"restrictOOMScoreAdj"`
		CNI                 struct {
			BinDir  string   `json:"binDir"`
			BinDirs []string `json:"binDirs"`
			ConfDir string   `json:"confDir"`
		} `json:"cni"`
		Containerd struct {
			Runtimes map[string]struct {
				Options map[string]any `json:"options"`
			} `json:"runtimes"`
		} `json:"containerd"`
	}
	if json.Unmarshal([]byte(st.Info["config"]), &cfg) == nil && cfg.RestrictOOMScoreAdj != nil {
		info.Known, info.SandboxImage, info.RestrictOOM = true, cfg.SandboxImage, *cfg.RestrictOOMScoreAdj
		info.CNIBin, info.CNIConf = cfg.CNI.BinDir, cfg.CNI.ConfDir
		if info.CNIBin == "" && len(cfg.CNI.BinDirs) > 0 {
			info.CNIBin = cfg.CNI.BinDirs[0]
		}
		info.SystemdCgroup, _ = cfg.Containerd.Runtimes["runc"].Options["SystemdCgroup"].(bool)
	}
	if rc, err := r.runtime.RuntimeConfig(ctx, &runtimeapi.RuntimeConfigRequest{}); err == nil && rc.GetLinux() != nil {
		info.SystemdCgroup = rc.Linux.CgroupDriver == runtimeapi.CgroupDriver_SYSTEMD
	}
	return info, nil
}

// CNIBin is the folder that has the CNI plugins, empty where there is none.
func CNIBin() string {
	for _, d := range []string{"/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"} {
		if regular(filepath.Join(d, "bridge")) && regular(filepath.Join(d, "host-local")) {
			return d
		}
	}
	return ""
}

// StartContainerd starts containerd, by systemd where that is PID 1 and else as a supervised process with a
// configuration of ours, and waits until it answers. The answer says what it did.
func StartContainerd(ctx context.Context, s *State, sandboxImage string, restrictOOM bool) (string, error) {
	did := "systemctl enable --now containerd"
	if Systemd() {
		if err := run(ctx, "systemctl", "enable", "--now", "containerd"); err != nil {
			return "", err
		}
	} else {
		config, err := containerdConfig(ctx, sandboxImage, restrictOOM)
		if err != nil {
			return "", err
		}
		binary, err := exec.LookPath("containerd")
		if err != nil {
			return "", err
		}
		s.Containerd = true
		if err := s.Save(); err != nil {
			return "", err
		}
		if err := startSupervised("containerd", nil, []string{binary, "--config", config}); err != nil {
			return "", err
		}
		did = "a supervised background process, since PID 1 is not systemd (log: " + LogFile("containerd") + ")"
	}
	err := poll(ctx, 30*time.Second, func() (bool, error) {
		r, err := Connect(ctx, DefaultSocket)
		if err != nil {
			return false, nil
		}
		defer r.Close()
		info, err := r.Info(ctx)
		return err == nil && info.Name != "", nil
	})
	if err != nil {
		return "", fmt.Errorf("containerd does not answer on %s: %w (log: %s)", DefaultSocket, err, LogFile("containerd"))
	}
	return did, nil
}

func containerdConfig(ctx context.Context, sandboxImage string, restrictOOM bool) (string, error) {
	out, err := exec.CommandContext(ctx, "containerd", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("containerd --version: %w", err)
	}
	template := "network/containerd-v2.toml"
	if f := strings.Fields(string(out)); len(f) >= 3 && strings.HasPrefix(strings.TrimPrefix(f[2], "v"), "2.") {
		template = "network/containerd-v3.toml"
	}
	text, err := manifests.Render(template, manifests.Values{Containerd: manifests.Containerd{
		Root: filepath.Join(StateDir, "containerd"), State: filepath.Join(RunDir, "containerd"), Address: strings.TrimPrefix(DefaultSocket, "unix://"),
		CNIBin: CNIBin(), SandboxImage: sandboxImage, RestrictOOM: restrictOOM,
	}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(StateDir, "containerd.toml")
	return path, WriteFile(path, text, 0o644)
}

// HasImage says whether the runtime has an image.
func (r *Runtime) HasImage(ctx context.Context, name string) (bool, error) {
	st, err := r.images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: name}})
	return err == nil && st.Image != nil, err
}

// Pull pulls an image.
func (r *Runtime) Pull(ctx context.Context, name string) error {
	_, err := r.images.PullImage(ctx, &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: name}})
	return err
}

// RemoveImage removes an image by its name.
func (r *Runtime) RemoveImage(ctx context.Context, name string) error {
	_, err := r.images.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: name}})
	return err
}

// RemovePods stops and removes every pod of the runtime, and says how many.
func (r *Runtime) RemovePods(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, criTimeout)
	defer cancel()
	list, err := r.runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, p := range list.Items {
		containers, err := r.runtime.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{PodSandboxId: p.Id}})
		if err == nil {
			for _, c := range containers.Containers {
				_, _ = r.runtime.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: c.Id, Timeout: 0})
			}
		}
		if _, err := r.runtime.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: p.Id}); err != nil {
			errs = append(errs, fmt.Errorf("stop pod %s/%s: %w", p.Metadata.GetNamespace(), p.Metadata.GetName(), err))
			continue
		}
		if _, err := r.runtime.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: p.Id}); err != nil {
			errs = append(errs, fmt.Errorf("remove pod %s/%s: %w", p.Metadata.GetNamespace(), p.Metadata.GetName(), err))
		}
	}
	return len(list.Items) - len(errs), errors.Join(errs...)
}

// NetworkReady says whether the runtime has a pod network.
func (r *Runtime) NetworkReady(ctx context.Context) bool {
	st, err := r.runtime.Status(ctx, &runtimeapi.StatusRequest{})
	if err != nil {
		return false
	}
	for _, c := range st.Status.GetConditions() {
		if c.Type == runtimeapi.NetworkReady {
			return c.Status
		}
	}
	return false
}
