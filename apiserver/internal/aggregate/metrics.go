package aggregate

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

var unavailableServices = prometheus.NewDesc("aggregator_unavailable_apiservice", "[ALPHA] Gauge of APIServices which are marked as unavailable broken down by APIService name.", []string{"name"}, nil)

func newDowns() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "aggregator_unavailable_apiservice_total", Help: "[ALPHA] Counter of APIServices which are marked as unavailable broken down by APIService name and reason.",
	}, []string{"name", "reason"})
}

// Describe implements prometheus.Collector.
func (a *Aggregator) Describe(ch chan<- *prometheus.Desc) {
	a.downs.Describe(ch)
	ch <- unavailableServices
}

// Collect implements prometheus.Collector.
func (a *Aggregator) Collect(ch chan<- prometheus.Metric) {
	a.downs.Collect(ch)
	a.mu.RLock()
	down := map[string]bool{}
	for _, r := range a.remotes {
		down[r.name] = !r.available
	}
	a.mu.RUnlock()
	// An error leaves the metric out, for the time being.
	_ = a.deps.API.Each(gvrAPIServices(), "", func(obj runtime.Object) bool {
		if s, ok := obj.(*apiregistrationv1.APIService); ok {
			value := 0.0
			if down[s.Name] {
				value = 1
			}
			ch <- prometheus.MustNewConstMetric(unavailableServices, prometheus.GaugeValue, value, s.Name)
		}
		return true
	})
}
