// Package metrics builds the metrics registry of a process.
//
// Data in: the component's name. Data out: a registry with the Go and process
// collectors and kubernetes_build_info, to which the component adds its own
// metrics under upstream's names. It owns no goroutine.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"flagship/internal/version"
)

// NewRegistry returns a registry with what every component exposes.
func NewRegistry(component string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	v := version.Get()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "kubernetes_build_info",
		Help: "[BETA] A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.",
		ConstLabels: prometheus.Labels{
			"major": v.Major, "minor": v.Minor, "git_version": v.GitVersion, "git_commit": v.GitCommit,
			"git_tree_state": v.GitTreeState, "build_date": v.BuildDate, "go_version": v.GoVersion,
			"compiler": v.Compiler, "platform": v.Platform,
		},
	})
	build.Set(1)
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "flagship_component_info",
		Help:        "A constant 1 that names the Flagship component of this process.",
		ConstLabels: prometheus.Labels{"component": component},
	})
	info.Set(1)
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		build, info,
	)
	return r
}
