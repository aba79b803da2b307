package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// image is one image of one layer.
type image struct {
	name, user, workdir string
	entrypoint, cmd     []string
	files               []entry
}

// entry is a file of a layer: from a file of this machine, a text, a link or a folder.
type entry struct {
	to, from, text, link string
	dir                  bool
	mode                 int64
}

// file is the tarball's name: the image's without what a file name cannot have.
func (im image) file() string {
	return strings.NewReplacer("/", "_", ":", "_").Replace(im.name) + ".tar"
}

// write makes the tarball in a folder unless one of the same contents is there. The answer is whether it wrote.
func (im image) write(folder string) (bool, error) {
	layer, err := im.layer()
	if err != nil {
		return false, err
	}
	cfg := v1.Config{Env: []string{pathEnv}, Entrypoint: im.entrypoint, Cmd: im.cmd, User: im.user, WorkingDir: im.workdir}
	h := sha256.New()
	fmt.Fprintf(h, "%s %+v %s\n", im.name, cfg, runtime.GOARCH)
	h.Write(layer)
	sum := hex.EncodeToString(h.Sum(nil))
	target := filepath.Join(folder, im.file())
	mark := target + ".sha256"
	if old, err := os.ReadFile(mark); err == nil && string(old) == sum {
		if _, err := os.Stat(target); err == nil {
			return false, nil
		}
	}
	built, err := mutate.AppendLayers(empty.Image, static.NewLayer(layer, types.DockerUncompressedLayer))
	if err != nil {
		return false, err
	}
	file, err := built.ConfigFile()
	if err != nil {
		return false, err
	}
	file = file.DeepCopy()
	file.Architecture, file.OS, file.Config = runtime.GOARCH, "linux", cfg
	if built, err = mutate.ConfigFile(built, file); err != nil {
		return false, err
	}
	ref, err := name.NewTag(im.name, name.StrictValidation)
	if err != nil {
		return false, err
	}
	if err := tarball.WriteToFile(target, ref, built); err != nil {
		return false, err
	}
	return true, os.WriteFile(mark, []byte(sum), 0o644)
}

const pathEnv = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// layer is the files as a tar archive, the same bytes for the same contents.
func (im image) layer() ([]byte, error) {
	files := map[string]entry{}
	for _, e := range im.files {
		for d := path.Dir(e.to); d != "/"; d = path.Dir(d) {
			if _, ok := files[d]; !ok {
				files[d] = entry{to: d, dir: true, mode: 0o755}
			}
		}
		files[e.to] = e
	}
	names := make([]string, 0, len(files))
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, n := range names {
		if err := add(w, files[n]); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return buf.Bytes(), err
}

func add(w *tar.Writer, e entry) error {
	h := &tar.Header{Name: strings.TrimPrefix(e.to, "/"), Mode: e.mode, Format: tar.FormatPAX}
	switch {
	case e.dir:
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		return w.WriteHeader(h)
	case e.link != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, e.link, 0o777
		return w.WriteHeader(h)
	case e.from == "":
		h.Typeflag, h.Size = tar.TypeReg, int64(len(e.text))
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err := io.WriteString(w, e.text)
		return err
	}
	data, err := os.ReadFile(e.from)
	if err != nil {
		return err
	}
	info, err := os.Stat(e.from)
	if err != nil {
		return err
	}
	h.Typeflag, h.Size, h.Mode = tar.TypeReg, int64(len(data)), int64(info.Mode().Perm())
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// libraries are the shared libraries and loaders that programs need, as ldd finds them.
func libraries(programs []string) ([]entry, error) {
	seen := map[string]bool{}
	var out []entry
	for _, p := range programs {
		// ldd fails for a static program: there is nothing to add then.
		lines, _ := exec.Command("ldd", p).Output()
		for line := range strings.SplitSeq(string(lines), "\n") {
			if strings.Contains(line, "not found") {
				return nil, fmt.Errorf("%s needs a library that is not on this machine:%s", p, line)
			}
			fields := strings.Fields(line)
			i := slices.IndexFunc(fields, func(f string) bool { return strings.HasPrefix(f, "/") })
			if i < 0 || strings.HasSuffix(fields[i], ":") {
				continue
			}
			to := fields[i]
			if !strings.HasPrefix(to, "/usr/") {
				to = "/usr" + to
			}
			if !seen[to] {
				seen[to] = true
				out = append(out, entry{to: to, from: fields[i]})
			}
		}
	}
	return out, nil
}

func glob(patterns []string) []string {
	for _, p := range patterns {
		if found, _ := filepath.Glob(p); len(found) > 0 {
			return found
		}
	}
	return nil
}

func output(program string, args ...string) ([]string, error) {
	data, err := exec.Command(program, args...).Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	return strings.Fields(string(data)), nil
}
