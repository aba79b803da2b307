package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"flagship/hack/images/layer"
)

// image is one image of one layer.
type image struct {
	name, user, workdir string
	entrypoint, cmd     []string
	files               []layer.Entry
}

// file is the tarball's name: the image's without what a file name cannot have.
func (im image) file() string {
	return strings.NewReplacer("/", "_", ":", "_").Replace(im.name) + ".tar"
}

// write makes the tarball in a folder unless one of the same contents is there. The answer is whether it wrote.
func (im image) write(folder string) (bool, error) {
	archive, err := layer.Tar(im.files)
	if err != nil {
		return false, err
	}
	cfg := v1.Config{Env: []string{pathEnv}, Entrypoint: im.entrypoint, Cmd: im.cmd, User: im.user, WorkingDir: im.workdir}
	h := sha256.New()
	fmt.Fprintf(h, "%s %+v %s\n", im.name, cfg, runtime.GOARCH)
	h.Write(archive)
	sum := hex.EncodeToString(h.Sum(nil))
	target := filepath.Join(folder, im.file())
	mark := target + ".sha256"
	if old, err := os.ReadFile(mark); err == nil && string(old) == sum {
		if _, err := os.Stat(target); err == nil {
			return false, nil
		}
	}
	built, err := mutate.AppendLayers(empty.Image, static.NewLayer(archive, types.DockerUncompressedLayer))
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
