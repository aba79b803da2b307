package config

import (
	"strings"
	"testing"
)

func TestEffective(t *testing.T) {
	for name, c := range map[string]struct {
		emulated, compatible []string
		want, err            string
	}{
		"nothing given":       {nil, nil, "1.37 1.36", ""},
		"the one before":      {[]string{"1.36"}, nil, "1.36 1.35", ""},
		"the oldest":          {[]string{"kube=1.34"}, nil, "1.34 1.34", ""},
		"both":                {[]string{"kube=1.36"}, []string{"1.34"}, "1.36 1.34", ""},
		"too old":             {[]string{"1.33"}, nil, "", "emulation version 1.33 is not between [1.34, 1.37.0]"},
		"too new":             {[]string{"1.38"}, nil, "", "emulation version 1.38 is not between [1.34, 1.37.0]"},
		"newer than emulated": {[]string{"1.35"}, []string{"1.36"}, "", "minCompatibilityVersion version 1.36 is not between [1.34, 1.35]"},
		"a patch":             {[]string{"1.36.2"}, nil, "", "patch version not allowed, got: kube=1.36.2"},
		"twice":               {[]string{"1.36", "kube=1.35"}, nil, "", "duplicate version flag, kube=1.36 and kube=1.35"},
		"another's":           {[]string{"wardle=1.2"}, nil, "", "component not registered: wardle"},
		"no version":          {[]string{"new"}, nil, "", "--emulated-version: could not parse"},
	} {
		t.Run(name, func(t *testing.T) {
			i, _, err := (&Config{EmulatedVersion: c.emulated, MinCompatibility: c.compatible}).effective()
			if (err != nil || c.err != "") && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Fatalf("%v, want %s", err, c.err)
			}
			if got := i.EmulationMajor + "." + i.EmulationMinor + " " + i.MinCompatibilityMajor + "." + i.MinCompatibilityMinor; c.err == "" && got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}
