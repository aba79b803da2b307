package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"flagship/hack/images/layer"
)

// image is what upstream's test/utils/image/manifest.go names, made here.
type image struct {
	repository string
	tags       []string
	config     v1.Config
	debian     bool // stands on the Debian system
	files      []layer.Entry
}

const pathEnv = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// images are those that conformance tests run.
func images(s *suite, own, source string) ([]image, error) {
	box, err := layer.Busybox(own)
	if err != nil {
		return nil, err
	}
	agnhost := func(more ...layer.Entry) []layer.Entry {
		porter := filepath.Join(source, "test/images/agnhost/porter")
		return append([]layer.Entry{
			{To: "/agnhost", From: s.path("agnhost"), Mode: 0o755},
			{To: "/agnhost-2", Link: "agnhost"},
			{To: "/localhost.crt", From: filepath.Join(porter, "localhost.crt")},
			{To: "/localhost.key", From: filepath.Join(porter, "localhost.key")},
			{To: "/uploads", Dir: true, Mode: 0o755},
			{To: "/etc/passwd", Text: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nuser-defined-in-image:x:1000:1000::/home:/bin/sh\n", Mode: 0o644},
			{To: "/etc/group", Text: "root:x:0:\nnogroup:x:65534:\nuser-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n", Mode: 0o644},
		}, more...)
	}
	serve := v1.Config{Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}}
	out := []image{
		{repository: "pause", tags: []string{"3.10.2"}, config: v1.Config{Entrypoint: []string{"/pause"}, User: "65535:65535"}, files: []layer.Entry{{To: "/pause", From: filepath.Join(own, "pause"), Mode: 0o755}}},
		{repository: "etcd", tags: []string{"3.7.0-0"}, debian: true, files: []layer.Entry{{To: "/usr/local/bin/etcd", From: s.path("etcd"), Mode: 0o755}}},
		{repository: "e2e-test-images/agnhost", tags: []string{"2.66.1", "2.55"}, config: serve, debian: true, files: agnhost()},
		{repository: "e2e-test-images/busybox", tags: []string{"1.37.0-2"}, config: v1.Config{Cmd: []string{"sh"}}, files: box},
		{repository: "e2e-test-images/glibc-dns-testing", tags: []string{"2.1.1"}, config: v1.Config{Cmd: []string{"bash"}}, debian: true},
		{repository: "e2e-test-images/nginx", tags: []string{"1.27.0-2", "1.28.0-2"}, config: v1.Config{Cmd: []string{"nginx", "-g", "daemon off;"}}, debian: true, files: nginx()},
		{repository: "e2e-test-images/nonewprivs", tags: []string{"1.4"}, config: v1.Config{Cmd: []string{"nnp"}}, debian: true, files: []layer.Entry{{To: "/usr/local/bin/nnp", From: s.path("nnp"), Mode: 0o6755}}},
		{repository: "e2e-test-images/nonroot", tags: []string{"1.5"}, config: v1.Config{User: "1234", Cmd: []string{"bash"}}, debian: true},
		{repository: "e2e-test-images/sample-apiserver", tags: []string{"1.29.2"}, config: v1.Config{Entrypoint: []string{"/sample-apiserver"}}, debian: true, files: []layer.Entry{{To: "/sample-apiserver", From: s.path("sample-apiserver"), Mode: 0o755}}},
	}
	for _, pet := range []string{"kitten", "nautilus"} {
		html := filepath.Join(source, "test/images", pet, "html")
		out = append(out, image{
			repository: "e2e-test-images/" + pet, tags: []string{"1.8"}, config: v1.Config{Entrypoint: serve.Entrypoint, Cmd: []string{"test-webserver"}}, debian: true,
			files: agnhost(
				layer.Entry{To: "/" + pet + ".jpg", From: filepath.Join(html, pet+".jpg")}, layer.Entry{To: "/data.json", From: filepath.Join(html, "data.json")},
				// The original stands on Alpine Linux, and a test looks for the name.
				layer.Entry{To: "/etc/os-release", Text: "NAME=\"Alpine Linux\"\nID=alpine\n", Mode: 0o644}),
		})
	}
	return out, nil
}

// nginx is a web server with the original's folders.
func nginx() []layer.Entry {
	conf := `worker_processes 1;
error_log /dev/stderr notice;
pid /run/nginx.pid;
events { worker_connections 256; }
http {
  include /etc/nginx/mime.types;
  access_log /dev/stdout;
  server {
    listen 80;
    root /usr/share/nginx/html;
    index index.html;
  }
}
`
	return []layer.Entry{
		{To: "/etc/nginx/nginx.conf", Text: conf, Mode: 0o644},
		{To: "/usr/share/nginx/html/index.html", Text: "<!DOCTYPE html>\n<html><head><title>Welcome to nginx!</title></head><body><h1>Welcome to nginx!</h1></body></html>\n", Mode: 0o644},
	}
}

// pushImages puts the images that the registry does not have into it.
func pushImages(ctx context.Context, o options, s *suite, address string) error {
	start := time.Now()
	own := filepath.Join(o.cache, "own")
	for _, program := range []string{"pause", "sh", "wget"} {
		if err := step(ctx, "build "+program, o.images, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(own, program), "./"+program); err != nil {
			return err
		}
	}
	source, err := upstreamSource(ctx, o)
	if err != nil {
		return err
	}
	list, err := images(s, own, source)
	if err != nil {
		return err
	}
	root, err := debian(ctx, o.cache)
	if err != nil {
		return err
	}
	base, err := tarball.LayerFromFile(root)
	if err != nil {
		return fmt.Errorf("read the Debian system: %w", err)
	}
	for _, im := range list {
		if err := im.push(ctx, address, base); err != nil {
			return fmt.Errorf("image %s: %w", im.repository, err)
		}
	}
	if d := time.Since(start); d > 2*time.Second {
		fmt.Printf("PROGRESS images: %.0f s\n", d.Seconds())
	}
	return nil
}

// push makes the image and puts it into the registry under its tags.
func (im image) push(ctx context.Context, address string, base v1.Layer) error {
	var layers []v1.Layer
	if im.debian {
		layers = append(layers, base)
	}
	if len(im.files) > 0 {
		archive, err := layer.Tar(im.files)
		if err != nil {
			return err
		}
		layers = append(layers, static.NewLayer(archive, types.DockerUncompressedLayer))
	}
	built, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return err
	}
	file, err := built.ConfigFile()
	if err != nil {
		return err
	}
	file = file.DeepCopy()
	file.Architecture, file.OS, file.Config = runtime.GOARCH, "linux", im.config
	file.Config.Env = []string{pathEnv}
	if built, err = mutate.ConfigFile(built, file); err != nil {
		return err
	}
	for _, tag := range im.tags {
		ref, err := name.NewTag(address+"/"+im.repository+":"+tag, name.Insecure)
		if err != nil {
			return err
		}
		if err := remote.Write(ref, built, remote.WithContext(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// packages of the Debian system that most images stand on: what upstream's agnhost, nginx and DNS images have.
const packages = "curl,bind9-dnsutils,netcat-openbsd,iproute2,iperf,socat,nginx-light,ca-certificates"

// debianName changes with what is in the system.
const debianName = "debian-1.tar.gz"

// debian makes the system's archive, once.
func debian(ctx context.Context, cache string) (string, error) {
	archive := filepath.Join(cache, debianName)
	if _, err := os.Stat(archive); err == nil {
		return archive, nil
	}
	root, err := os.MkdirTemp(cache, "debootstrap-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(root) }()
	if err := step(ctx, "make a Debian system for the images", cache, nil, "debootstrap", "--variant=minbase", "--include="+packages, "bookworm", root); err != nil {
		return "", err
	}
	if err := os.Chmod(root, 0o755); err != nil { // the images' / is what this folder is
		return "", err
	}
	part := archive + ".part"
	args := []string{"tar", "-C", root, "--numeric-owner", "--sort=name", "--mtime=@0", "-czf", part}
	for _, d := range []string{"dev", "proc", "sys", "var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"} {
		args = append(args, "--exclude=./"+d+"/*")
	}
	if err := step(ctx, "pack the Debian system", cache, nil, append(args, ".")...); err != nil {
		return "", err
	}
	return archive, os.Rename(part, archive)
}
