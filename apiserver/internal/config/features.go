package config

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// gates are upstream's feature gates of v1.37: name, stage, whether it is on, and whether that may be changed.
//
//go:embed features.txt
var gates string

// feature is one gate.
type feature struct {
	stage      string // ALPHA, BETA, GA or DEPRECATED
	on, locked bool
}

func features() map[string]feature {
	out := map[string]feature{}
	for line := range strings.Lines(gates) {
		f := strings.Fields(line)
		out[f[0]] = feature{stage: f[1], on: f[2] == "on", locked: len(f) > 3}
	}
	return out
}

// FeatureGates is what --feature-gates asks for. Its names and what may be set are upstream's; what the gates change is not built but as it is by default, so that
// a gate that is set otherwise is told of.
type FeatureGates map[string]bool

// String implements pflag.Value.
func (g FeatureGates) String() string {
	out := make([]string, 0, len(g))
	for name, on := range g {
		out = append(out, fmt.Sprintf("%s=%t", name, on))
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

// Type implements pflag.Value.
func (FeatureGates) Type() string { return "NAME=BOOL,…" }

// Set implements pflag.Value.
func (g FeatureGates) Set(text string) error {
	known := features()
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimPrefix(strings.TrimSpace(part), "kube:")
		if part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return fmt.Errorf("missing bool value for %s", name)
		}
		on, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("invalid value of %s=%s, err: %w", name, value, err)
		}
		f, ok := known[name]
		switch {
		case !ok:
			return fmt.Errorf("unrecognized feature gate: %s", name)
		case f.locked && on != f.on:
			return fmt.Errorf("cannot set feature gate %s to %t, feature is locked to %t", name, on, f.on)
		}
		g[name] = on
	}
	return nil
}

// Unmet are the gates that are set to what is not built, in the order of their names.
func (g FeatureGates) Unmet() []string {
	var out []string
	known := features()
	for name, on := range g {
		if on != known[name].on {
			out = append(out, fmt.Sprintf("%s=%t", name, on))
		}
	}
	slices.Sort(out)
	return out
}

// RegisterFeatures adds the metric of what is on.
func RegisterFeatures(reg prometheus.Registerer) {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kubernetes_feature_enabled", Help: "[BETA] This metric records the data about the stage and enablement of a k8s feature."}, []string{"name", "stage"})
	for name, f := range features() {
		stage, value := f.stage, 0.0
		if stage == "GA" {
			stage = ""
		}
		if f.on {
			value = 1
		}
		v.WithLabelValues(name, stage).Set(value)
	}
	reg.MustRegister(v)
}
