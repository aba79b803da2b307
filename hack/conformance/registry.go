package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // where blobs lie
	"github.com/sirupsen/logrus"
)

// mirrored is the registry that the tests name.
const mirrored = "registry.k8s.io"

// hostsDir is the folder of containerd's settings by registry.
const hostsDir = "/etc/containerd/certs.d"

// registry serves images on loopback, and to the machines that are nodes.
type registry struct {
	address string
	server  *http.Server
	serving sync.WaitGroup
	undo    []func()
}

func startRegistry(ctx context.Context, dir string) (_ *registry, err error) {
	cfg := &configuration.Configuration{Version: "0.1", Storage: configuration.Storage{
		"filesystem": configuration.Parameters{"rootdirectory": dir},
	}}
	logrus.SetLevel(logrus.FatalLevel) // the registry logs each blob that a push asks for and that is not there as an error
	cfg.Log.AccessLog.Disabled = true
	cfg.HTTP.Secret = "loopback"
	app := handlers.NewApp(ctx, cfg)
	r := &registry{server: &http.Server{Handler: app, ReadHeaderTimeout: time.Minute}}
	r.address, err = r.listen("127.0.0.1")
	return r, err
}

// listen serves at a free port of an address of this machine until stop, and says which.
func (r *registry) listen(ip string) (string, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		return "", fmt.Errorf("listen for the registry: %w", err)
	}
	r.serving.Go(func() {
		if err := r.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(os.Stderr, "registry:", err)
		}
	})
	return l.Addr().String(), nil
}

// stop ends the mirrors, then the server.
func (r *registry) stop() {
	for _, undo := range r.undo {
		undo()
	}
	_ = r.server.Close()
	r.serving.Wait()
}

// mirror makes the containerd of this machine, where host is set, and those of the machines in the folder nodes (hack/nodes.sh) ask this registry for the tests'
// images until stop.
func (r *registry) mirror(ctx context.Context, host bool, nodes string) error {
	if host {
		if err := readsHosts(ctx); err != nil {
			return err
		}
		if err := r.mirrorOn("/", r.address); err != nil {
			return err
		}
	}
	hosts, err := filepath.Glob(filepath.Join(nodes, "*", "host"))
	if err != nil {
		return err
	}
	for _, file := range hosts {
		ip, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		address, err := r.listen(strings.TrimSpace(string(ip)))
		if err != nil {
			return err
		}
		if err := r.mirrorOn(filepath.Join(filepath.Dir(file), "root"), address); err != nil {
			return err
		}
	}
	return nil
}

// mirrorOn makes the containerd that sees root as its file system ask the registry at address.
func (r *registry) mirrorOn(root, address string) error {
	dir := filepath.Join(root, hostsDir, mirrored)
	file := filepath.Join(dir, "hosts.toml")
	old, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text := fmt.Sprintf("# make conformance wrote this and takes it back when it ends.\nserver = \"http://%[1]s\"\n\n[host.\"http://%[1]s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", address)
	if strings.HasPrefix(string(old), "# make conformance") {
		old = nil // a run that was killed left it
	}
	r.undo = append(r.undo, func() {
		if old != nil {
			_ = os.WriteFile(file, old, 0o644)
			return
		}
		_ = os.RemoveAll(dir)
	})
	return os.WriteFile(file, []byte(text), 0o644)
}

// readsHosts asks the runtime whether it reads hostsDir. One that does not tell is believed to.
func readsHosts(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "containerd", "--version").Output()
	if err != nil {
		return fmt.Errorf("containerd is needed for the mirror: %w", err)
	}
	section := `[plugins."io.containerd.grpc.v1.cri".registry]`
	if f := strings.Fields(string(out)); len(f) >= 3 && strings.HasPrefix(strings.TrimPrefix(f[2], "v"), "2.") {
		section = `[plugins."io.containerd.cri.v1.images".registry]`
	}
	status, err := criStatus(ctx)
	if err != nil {
		return err
	}
	var cfg struct {
		Registry struct {
			ConfigPath *string `json:"configPath"`
		} `json:"registry"`
	}
	if json.Unmarshal([]byte(status["config"]), &cfg) != nil || cfg.Registry.ConfigPath == nil {
		return nil
	}
	if !strings.Contains(":"+*cfg.Registry.ConfigPath+":", ":"+hostsDir+":") {
		return fmt.Errorf("containerd does not read %s; add to its configuration, and restart it:\n%s\n  config_path = %q", hostsDir, section, hostsDir)
	}
	return nil
}
