package expression

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/component-base/metrics/legacyregistry"
)

// forwarded are the metrics of the library that evaluates the rules of custom resources. It counts in a registry of its own, and nothing else there is of interest.
// Upstream counts no other expressions under these names.
type forwarded map[string]*prometheus.Desc

// Forward has a registry tell apiserver_cel_compilation_duration_seconds and apiserver_cel_evaluation_duration_seconds.
func Forward(reg prometheus.Registerer) {
	f := forwarded{}
	for _, what := range []string{"compilation", "evaluation"} {
		name := fmt.Sprintf("apiserver_cel_%s_duration_seconds", what)
		f[name] = prometheus.NewDesc(name, fmt.Sprintf("[BETA] CEL %s time in seconds.", what), nil, nil)
	}
	reg.MustRegister(f)
}

// Describe implements prometheus.Collector.
func (f forwarded) Describe(out chan<- *prometheus.Desc) {
	for _, d := range f {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (f forwarded) Collect(out chan<- prometheus.Metric) {
	families, err := legacyregistry.DefaultGatherer.Gather()
	for _, family := range families {
		d := f[family.GetName()]
		if d == nil {
			continue
		}
		for _, m := range family.GetMetric() {
			h := m.GetHistogram()
			buckets := make(map[float64]uint64, len(h.GetBucket()))
			for _, b := range h.GetBucket() {
				buckets[b.GetUpperBound()] = b.GetCumulativeCount()
			}
			out <- prometheus.MustNewConstHistogram(d, h.GetSampleCount(), h.GetSampleSum(), buckets)
		}
	}
	if err != nil && len(families) == 0 {
		for _, d := range f {
			out <- prometheus.NewInvalidMetric(d, err)
		}
	}
}
