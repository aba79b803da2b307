package config

import (
	"os"
	"strings"
	"testing"

	"flagship/internal/options"
)

// TestFlags compares the flags with upstream's: testdata/flags.txt has the names and the defaults that kube-apiserver v1.37.2 --help shows.
func TestFlags(t *testing.T) {
	set := options.New("kube-apiserver")
	Defaults().addFlags(set)
	data, err := os.ReadFile("testdata/flags.txt")
	if err != nil {
		t.Fatal(err)
	}
	// What upstream's help leaves out, or says in another way.
	other := map[string]string{
		"http2-max-streams-per-connection":   "100 is upstream's too, which says 0 for it",
		"service-cluster-ip-range":           "10.0.0.0/24 is upstream's too",
		"requestheader-extra-headers-prefix": "upstream's help shows none, and takes this",
		"requestheader-group-headers":        "upstream's help shows none, and takes this",
		"requestheader-username-headers":     "upstream's help shows none, and takes this",
	}
	for line := range strings.Lines(string(data)) {
		name, want, _ := strings.Cut(strings.TrimSpace(line), " ")
		f := set.Flags().Lookup(name)
		if f == nil {
			t.Errorf("no --%s", name)
			continue
		}
		got := f.DefValue
		if got == "false" || got == "[]" || got == "0" || got == "0s" || got == "<nil>" {
			got = ""
		}
		if got != want && other[name] == "" {
			t.Errorf("--%s: default %q, upstream %q", name, got, want)
		}
	}
}
