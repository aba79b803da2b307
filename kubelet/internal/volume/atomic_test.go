package volume

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func visible(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, p := range []string{"a", "b", "d/e"} {
		if data, err := os.ReadFile(filepath.Join(dir, p)); err == nil {
			out[p] = string(data)
		}
	}
	return out
}

func TestWriteAtomic(t *testing.T) {
	dir := t.TempDir()
	f := func(s string) File { return File{Data: []byte(s), Mode: 0o640} }
	steps := []struct {
		name    string
		files   map[string]File
		changed bool
		want    map[string]string
	}{
		{"first", map[string]File{"a": f("1"), "d/e": f("2")}, true, map[string]string{"a": "1", "d/e": "2"}},
		{"same", map[string]File{"a": f("1"), "d/e": f("2")}, false, map[string]string{"a": "1", "d/e": "2"}},
		{"changed, added and removed", map[string]File{"a": f("x"), "b": f("3")}, true, map[string]string{"a": "x", "b": "3"}},
		{"empty", nil, true, map[string]string{}},
	}
	for _, s := range steps {
		changed, err := WriteAtomic(dir, s.files, nil)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if changed != s.changed {
			t.Errorf("%s: changed %t, want %t", s.name, changed, s.changed)
		}
		if diff := cmp.Diff(s.want, visible(t, dir)); diff != "" {
			t.Errorf("%s: files (-want +got):\n%s", s.name, diff)
		}
		entries, err := filepath.Glob(filepath.Join(dir, "..2*"))
		if err != nil || len(entries) != 1 {
			t.Errorf("%s: %d data folders (%v), want 1", s.name, len(entries), err)
		}
	}
	for _, bad := range []string{"", "/x", "../x", "a/../b", "..x"} {
		if _, err := WriteAtomic(dir, map[string]File{bad: f("")}, nil); err == nil {
			t.Errorf("path %q accepted", bad)
		}
	}
}

func TestOpenBelowRefusesLinksOut(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	if _, err := openBelow(dir, "out/passwd"); err == nil {
		t.Error("a link out of the volume was followed")
	}
	if _, err := openBelow(dir, "new/deep"); err != nil {
		t.Errorf("missing folders: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, "new", "deep")); err != nil || !info.IsDir() {
		t.Errorf("missing folders were not made: %v", err)
	}
}
