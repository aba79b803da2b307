package bootstrap

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"flagship/ctl/internal/host"
	"flagship/ctl/internal/spec"
)

// Start starts the runtime, where it is ctl's, and the kubelet again.
func Start(ctx context.Context) (string, error) {
	state, err := host.LoadState()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(KubeletDir, "config.yaml")); err != nil {
		return "", errors.New("this machine is not a node: run ctl init or ctl join first")
	}
	if state.Containerd {
		if _, err := host.StartContainerd(ctx, state, spec.ImagesOf(&spec.ClusterConfiguration{ImageRepository: "registry.k8s.io"})["pause"], !host.SysResource()); err != nil {
			return "", err
		}
	}
	return host.StartKubelet(ctx, state)
}
