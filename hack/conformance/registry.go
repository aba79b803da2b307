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

// registry serves images on loopback.
type registry struct {
	address string
	server  *http.Server
	done    chan struct{}
	undo    func()
}

func startRegistry(ctx context.Context, dir string) (*registry, error) {
	cfg := &configuration.Configuration{Version: "0.1", Storage: configuration.Storage{
		"filesystem": configuration.Parameters{"rootdirectory": dir},
	}}
	logrus.SetLevel(logrus.FatalLevel) // the registry logs each blob that a push asks for and that is not there as an error
	cfg.Log.AccessLog.Disabled = true
	cfg.HTTP.Secret = "loopback"
	app := handlers.NewApp(ctx, cfg)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the registry: %w", err)
	}
	r := &registry{
		address: l.Addr().String(), done: make(chan struct{}), undo: func() {},
		server: &http.Server{Handler: app, ReadHeaderTimeout: time.Minute},
	}
	go func() {
		defer close(r.done)
		if err := r.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(os.Stderr, "registry:", err)
		}
	}()
	return r, nil
}

// stop ends the mirror, then the server.
func (r *registry) stop() {
	r.undo()
	_ = r.server.Close()
	<-r.done
}

// mirror makes containerd ask this registry for the tests' images until stop.
func (r *registry) mirror(ctx context.Context) error {
	if err := readsHosts(ctx); err != nil {
		return err
	}
	dir := filepath.Join(hostsDir, mirrored)
	file := filepath.Join(dir, "hosts.toml")
	old, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text := fmt.Sprintf("# make conformance wrote this and takes it back when it ends.\nserver = \"http://%[1]s\"\n\n[host.\"http://%[1]s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", r.address)
	if strings.HasPrefix(string(old), "# make conformance") {
		old = nil // a run that was killed left it
	}
	r.undo = func() {
		if old != nil {
			_ = os.WriteFile(file, old, 0o644)
			return
		}
		_ = os.RemoveAll(dir)
	}
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
