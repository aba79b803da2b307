package host

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ImageDir is the folder of tarballs beside this program, empty where there is none.
func ImageDir() string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	d := filepath.Join(filepath.Dir(self), "images")
	if !regular(filepath.Join(d, "images.txt")) {
		return ""
	}
	return d
}

// Tarball is one image in a file.
type Tarball struct{ Image, File string }

// Tarballs lists the images of a folder that `make images` wrote.
func Tarballs(dir string) ([]Tarball, error) {
	f, err := os.Open(filepath.Join(dir, "images.txt"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var out []Tarball
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, file, ok := strings.Cut(s.Text(), " "); ok {
			out = append(out, Tarball{Image: name, File: filepath.Join(dir, file)})
		}
	}
	return out, nil
}

// Import loads a tarball into containerd's images for Kubernetes, and gives it a second name where alias is set.
func (r *Runtime) Import(ctx context.Context, t Tarball, alias string) error {
	if _, err := exec.LookPath("ctr"); err != nil {
		return fmt.Errorf("import %s: ctr, which comes with containerd, is not on the PATH: %w", t.Image, err)
	}
	ctr := []string{"--address", strings.TrimPrefix(r.Endpoint, "unix://"), "--namespace", "k8s.io", "images"}
	if err := run(ctx, "ctr", append(ctr, "import", t.File)...); err != nil {
		return fmt.Errorf("import %s: %w", t.Image, err)
	}
	if alias != "" && alias != t.Image {
		return run(ctx, "ctr", append(ctr, "tag", "--force", t.Image, alias)...)
	}
	return nil
}
