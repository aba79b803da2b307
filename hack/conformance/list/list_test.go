package list

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"testing"

	"flagship/hack/conformance/report"
)

func TestListedTestsAreFound(t *testing.T) {
	file := filepath.Join(t.TempDir(), "l")
	text := "# what it is about\n\n[sig-a] X should (do) it\n[sig-b] Y should\n[sig-b] Z should be [LinuxOnly] strict\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	names, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	focus := regexp.MustCompile(Focus(names))
	for name, want := range map[string]bool{
		"Kubernetes e2e suite [sig-a] X should (do) it [Conformance] [Serial]": true,
		"Kubernetes e2e suite [sig-b] Y should [Conformance]":                  true,
		"Kubernetes e2e suite [sig-b] Y should not [Conformance]":              false,
		"Kubernetes e2e suite [sig-b] Z should be [LinuxOnly] strict":          true,
	} {
		if focus.MatchString(name) != want {
			t.Errorf("%q: matched %v", name, !want)
		}
	}
	sum := report.Summary{{SIG: "b", Name: "Y should [Conformance]", Result: report.Passed}, {SIG: "a", Name: "X should (do) it [Conformance] [Serial]", Result: report.Failed}}
	found, missing := Pick(names, sum)
	if want := (report.Summary{sum[1], sum[0]}); !reflect.DeepEqual(found, want) {
		t.Errorf("found %v, want %v", found, want)
	}
	if want := []string{"[sig-b] Z should be [LinuxOnly] strict"}; !reflect.DeepEqual(missing, want) {
		t.Errorf("missing %v, want %v", missing, want)
	}
}

func TestTwiceIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "l")
	for text, good := range map[string]bool{"[sig-a] X\n[sig-a] X\n": false, "# nothing\n": false, "[sig-a] X\n": true} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(file); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}
