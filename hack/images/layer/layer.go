package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Entry is a file of a layer: from a file of this machine, a text, a link or a folder. The mode of a file that comes
// from this machine is the file's own where none is given.
type Entry struct {
	To, From, Text, Link string
	Dir                  bool
	Mode                 int64
}

// Tar is the entries and the folders above them as a tar archive, the same bytes for the same contents.
func Tar(entries []Entry) ([]byte, error) {
	files := map[string]Entry{}
	for _, e := range entries {
		for d := path.Dir(e.To); d != "/"; d = path.Dir(d) {
			if _, ok := files[d]; !ok {
				files[d] = Entry{To: d, Dir: true, Mode: 0o755}
			}
		}
		files[e.To] = e
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

func add(w *tar.Writer, e Entry) error {
	h := &tar.Header{Name: strings.TrimPrefix(e.To, "/"), Mode: e.Mode, Format: tar.FormatPAX}
	switch {
	case e.Dir:
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		return w.WriteHeader(h)
	case e.Link != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, e.Link, 0o777
		return w.WriteHeader(h)
	case e.From == "":
		h.Typeflag, h.Size = tar.TypeReg, int64(len(e.Text))
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err := io.WriteString(w, e.Text)
		return err
	}
	data, err := os.ReadFile(e.From)
	if err != nil {
		return err
	}
	info, err := os.Stat(e.From)
	if err != nil {
		return err
	}
	h.Typeflag, h.Size = tar.TypeReg, int64(len(data))
	if h.Mode == 0 {
		h.Mode = int64(info.Mode().Perm())
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// Libraries are the shared libraries and loaders that programs need, as ldd finds them.
func Libraries(programs []string) ([]Entry, error) {
	seen := map[string]bool{}
	var out []Entry
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
				out = append(out, Entry{To: to, From: fields[i]})
			}
		}
	}
	return out, nil
}

// Glob is what the first pattern that matches finds.
func Glob(patterns []string) []string {
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
