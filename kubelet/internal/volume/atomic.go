package volume

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// File is one file of a projected volume.
type File struct {
	Data []byte
	Mode os.FileMode
	UID  *int64 // owner, nil for root
}

const (
	dataLink = "..data"
	newLink  = "..data_tmp"
)

// WriteAtomic makes dir show exactly the files (path below dir → file), all at once: the files are written to a fresh
// timestamped folder, and the ..data link, through which every visible name goes, is switched by one rename. It reports
// whether anything changed.
func WriteAtomic(dir string, files map[string]File, gid *int64) (bool, error) {
	for p := range files {
		if err := checkPath(p); err != nil {
			return false, err
		}
	}
	old, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !os.IsNotExist(err) {
		return false, fmt.Errorf("read link of volume: %w", err)
	}
	if old != "" && same(filepath.Join(dir, old), files) {
		return false, linkNames(dir, files)
	}
	fresh, err := os.MkdirTemp(dir, time.Now().UTC().Format("..2006_01_02_15_04_05."))
	if err != nil {
		return false, fmt.Errorf("create timestamped folder: %w", err)
	}
	if err := fill(fresh, files, gid); err != nil {
		os.RemoveAll(fresh)
		return false, err
	}
	tmp := filepath.Join(dir, newLink)
	if err := os.Remove(tmp); err != nil && !os.IsNotExist(err) {
		return false, fmt.Errorf("remove stale link: %w", err)
	}
	if err := os.Symlink(filepath.Base(fresh), tmp); err != nil {
		return false, fmt.Errorf("create link: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, dataLink)); err != nil {
		return false, fmt.Errorf("switch link: %w", err)
	}
	if err := linkNames(dir, files); err != nil {
		return true, err
	}
	if err := unlinkStale(dir, files); err != nil {
		return true, err
	}
	if old != "" && old != filepath.Base(fresh) {
		if err := os.RemoveAll(filepath.Join(dir, old)); err != nil {
			return true, fmt.Errorf("remove old data: %w", err)
		}
	}
	return true, nil
}

func checkPath(p string) error {
	if p == "" || filepath.IsAbs(p) || len(p) > 4096 {
		return fmt.Errorf("invalid path: %q must be relative and at most 4096 characters", p)
	}
	for i, part := range strings.Split(p, "/") {
		if part == ".." || (i == 0 && strings.HasPrefix(part, "..")) || len(part) > 255 {
			return fmt.Errorf("invalid path: %q must not contain '..' and its parts are at most 255 characters", p)
		}
	}
	return nil
}

func same(dir string, files map[string]File) bool {
	found := 0
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		want, ok := files[rel]
		if !ok {
			return fmt.Errorf("%s is gone", rel)
		}
		have, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(have, want.Data) {
			return fmt.Errorf("%s differs", rel)
		}
		found++
		return nil
	})
	return err == nil && found == len(files)
}

func fill(dir string, files map[string]File, gid *int64) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return fmt.Errorf("set mode of data folder: %w", err)
	}
	for p, f := range files {
		full := filepath.Join(dir, p)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return fmt.Errorf("create folder in volume: %w", err)
		}
		if err := os.WriteFile(full, f.Data, f.Mode); err != nil {
			return fmt.Errorf("write file of volume: %w", err)
		}
		if err := os.Chmod(full, f.Mode); err != nil {
			return fmt.Errorf("set mode of file of volume: %w", err)
		}
		if f.UID != nil {
			if err := os.Chown(full, int(*f.UID), -1); err != nil {
				return fmt.Errorf("set owner of file of volume: %w", err)
			}
		}
	}
	if gid == nil {
		return nil
	}
	return setGroup(dir, *gid, true) // what is projected is for reading
}

// topNames are the first path elements, which are the names visible in the volume.
func topNames(files map[string]File) []string {
	seen := map[string]bool{}
	var out []string
	for p := range files {
		first, _, _ := strings.Cut(p, "/")
		if !seen[first] {
			seen[first] = true
			out = append(out, first)
		}
	}
	sort.Strings(out)
	return out
}

func linkNames(dir string, files map[string]File) error {
	for _, name := range topNames(files) {
		link := filepath.Join(dir, name)
		if _, err := os.Lstat(link); err == nil {
			continue
		}
		if err := os.Symlink(filepath.Join(dataLink, name), link); err != nil {
			return fmt.Errorf("create visible link: %w", err)
		}
	}
	return nil
}

func unlinkStale(dir string, files map[string]File) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list volume: %w", err)
	}
	want := map[string]bool{}
	for _, n := range topNames(files) {
		want[n] = true
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") || want[e.Name()] {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("remove stale link: %w", err)
		}
	}
	return nil
}
