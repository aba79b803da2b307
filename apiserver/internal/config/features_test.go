package config

import (
	"strings"
	"testing"
)

func TestFeatureGates(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "",
		"WatchList=true":                  "",
		"kube:WatchList=false":            "WatchList=false",
		"AllAlpha=true, WatchList=1":      "AllAlpha=true",
		"Nope=true":                       "unrecognized feature gate: Nope",
		"WatchList":                       "missing bool value for WatchList",
		"WatchList=maybe":                 `invalid value of WatchList=maybe, err: strconv.ParseBool: parsing "maybe": invalid syntax`,
		"CPUManagerPolicyOptions=false":   "cannot set feature gate CPUManagerPolicyOptions to false, feature is locked to true",
		"CPUManagerPolicyOptions=true,,,": "",
	} {
		g := FeatureGates{}
		err := g.Set(text)
		got := strings.Join(g.Unmet(), ",")
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if n := len(features()); n != 254 {
		t.Errorf("%d gates, upstream has 254", n)
	}
}
