package config

import (
	"io"
	"strings"
	"testing"
)

func TestEnabled(t *testing.T) {
	on, off := Controllers()[1], Controller{Name: "bootstrap-signer-controller", Alias: "bootstrapsigner", Off: true}
	for name, tc := range map[string]struct {
		list    string
		on, off bool
	}{
		"default":  {"*", true, false},
		"both":     {"*,bootstrapsigner", true, true},
		"one off":  {"*,-serviceaccount-controller", false, false},
		"only one": {"bootstrap-signer-controller", false, true},
		"old name": {"*,-serviceaccount", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Load([]string{"--controllers", tc.list}, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if c.Enabled(on) != tc.on || c.Enabled(off) != tc.off {
				t.Errorf("got %v %v", c.Enabled(on), c.Enabled(off))
			}
		})
	}
}

func TestLoadErrors(t *testing.T) {
	for args, want := range map[string]string{
		"--nope":                                 "unknown flag: --nope",
		"--controllers=*,what":                   `--controllers: "what" is not in the list of known controllers`,
		"--allocate-node-cidrs":                  "--cluster-cidr: must be specified",
		"--cluster-cidr=10.0.0.0/33":             "--cluster-cidr:",
		"--cluster-cidr=10.0.0.0/16,10.1.0.0/16": "--cluster-cidr:",
		"--cluster-cidr=10.0.0.0/25":             "--node-cidr-mask-size: 24 does not fit into 10.0.0.0/25",
		"--cluster-signing-cert-file=x":          "--cluster-signing-cert-file and --cluster-signing-key-file go together",
		"--leader-elect-renew-deadline=20s":      "--leader-elect-lease-duration must be greater",
		"--max-endpoints-per-slice=2000":         "--max-endpoints-per-slice",
	} {
		_, err := Load(strings.Fields(args), io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line with %q", args, err, want)
		}
	}
}
