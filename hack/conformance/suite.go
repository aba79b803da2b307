package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// version is upstream's, of which the suite is. hack/upstream/go.mod has the same.
const version = "v1.37.2"

// suite is upstream's programs, built.
type suite struct {
	dir string // the folder that they are in
}

func (s *suite) path(name string) string { return filepath.Join(s.dir, name) }

// buildSuite builds what is not there. The folder's name changes with what it is built from.
func buildSuite(ctx context.Context, o options) (*suite, error) {
	sample := filepath.Join(o.upstream, "sampleapiserver")
	key := fmt.Appendf(nil, "%s %s\n", runtime.Version(), runtime.GOARCH)
	for _, dir := range []string{o.upstream, sample} {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err != nil {
			return nil, err
		}
		key = append(key, mod...)
	}
	sum := sha256.Sum256(key)
	s := &suite{dir: filepath.Join(o.cache, version+"-"+hex.EncodeToString(sum[:4]))}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, err
	}
	part := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	stamp := "-s -w"
	for _, v := range []string{"gitVersion=" + version, "gitMajor=" + part[0], "gitMinor=" + part[1]} {
		stamp += " -X k8s.io/component-base/version." + v
	}
	plain := "-s -w"
	for _, b := range []struct{ name, dir, flags, pkg string }{
		{"ginkgo", o.upstream, plain, "github.com/onsi/ginkgo/v2/ginkgo"},
		{"e2e.test", o.upstream, stamp, "k8s.io/kubernetes/test/e2e"},
		{"agnhost", o.upstream, stamp, "k8s.io/kubernetes/test/images/agnhost"},
		{"nnp", o.upstream, plain, "k8s.io/kubernetes/test/images/nonewprivs"},
		{"etcd", o.upstream, plain, "go.etcd.io/etcd/server/v3"},
		{"sample-apiserver", sample, plain, "k8s.io/sample-apiserver"},
	} {
		if _, err := os.Stat(s.path(b.name)); err == nil {
			continue
		}
		args := []string{"go", "build", "-ldflags", b.flags, "-o", s.path(b.name), b.pkg}
		if strings.HasSuffix(b.name, ".test") {
			// Without -vet=off, go vets every package that the suite is made of.
			args = []string{"go", "test", "-c", "-vet=off", "-ldflags", b.flags, "-o", s.path(b.name), b.pkg}
		}
		if err := step(ctx, "build "+b.name, b.dir, []string{"CGO_ENABLED=0"}, args...); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// upstreamSource is the folder of upstream's source.
func upstreamSource(ctx context.Context, o options) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes")
	cmd.Dir = o.upstream
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("find upstream's source: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// step runs a command that may take long, and says every 15 seconds that it is still at it.
func step(ctx context.Context, what, dir string, env []string, args ...string) error {
	start := time.Now()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "GOWORK=off"), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("%s: %w: %s", what, err, bytes.TrimSpace(out.Bytes()))
			}
			if d := time.Since(start); d > 2*time.Second {
				fmt.Printf("PROGRESS %s: %.0f s\n", what, d.Seconds())
			}
			return nil
		case <-tick.C:
			fmt.Printf("PROGRESS %s: %.0f s so far\n", what, time.Since(start).Seconds())
		}
	}
}

// commit is the checkout's, with a mark where files differ from it.
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=12").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
