package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

func main() {
	bin := flag.String("bin", "bin", "folder of the binaries")
	out := flag.String("out", "bin/images", "folder of the tarballs")
	src := flag.String("src", "hack/images", "folder of this module's source")
	tag := flag.String("tag", "v1.37.2", "tag of the components' images")
	flag.Parse()
	if err := run(*bin, *out, *src, *tag); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(bin, out, src, tag string) error {
	work, err := filepath.Abs(filepath.Join(out, "build"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"pause", "coredns", "sh", "wget"} {
		start := time.Now()
		if err := build(src, name, work); err != nil {
			return err
		}
		if d := time.Since(start); d > 2*time.Second {
			fmt.Printf("PROGRESS images: built %s in %.0f s\n", name, d.Seconds())
		}
	}
	images, err := list(bin, work, tag)
	if err != nil {
		return err
	}
	var names strings.Builder
	for _, im := range images {
		start := time.Now()
		written, err := im.write(out)
		if err != nil {
			return fmt.Errorf("image %s: %w", im.name, err)
		}
		fmt.Fprintf(&names, "%s %s\n", im.name, im.file())
		if written {
			fmt.Printf("PROGRESS images: wrote %s in %.1f s\n", im.name, time.Since(start).Seconds())
		}
	}
	return os.WriteFile(filepath.Join(out, "images.txt"), []byte(names.String()), 0o644)
}

// build compiles one of this module's own programs, statically.
func build(src, name, work string) error {
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", filepath.Join(work, name), "./"+name)
	cmd.Dir = src
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOARCH="+runtime.GOARCH, "GOOS=linux")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s: %w", name, err)
	}
	return nil
}
