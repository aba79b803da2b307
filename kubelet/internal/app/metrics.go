package app

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"flagship/internal/metrics"
	"flagship/kubelet/internal/podcert"
	"flagship/kubelet/internal/podstate"
	"flagship/kubelet/internal/probe"
)

// meters are the kubelet's own metrics, with upstream's names.
type meters struct {
	registry *prometheus.Registry
	probes   *prometheus.Registry
	total    *prometheus.CounterVec
}

func newMeters(k *kubelet) *meters {
	m := &meters{registry: metrics.NewRegistry("kubelet"), probes: prometheus.NewRegistry()}
	m.total = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "prober_probe_total", Help: "Cumulative number of a liveness, readiness or startup probe for a container by result.",
	}, []string{"container", "namespace", "pod", "pod_uid", "probe_type", "result"})
	m.probes.MustRegister(m.total)
	name := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kubelet_node_name", Help: "The node's name. The count is always 1."}, []string{"node"})
	name.WithLabelValues(k.name).Set(1)
	m.registry.MustRegister(name,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "kubelet_running_pods", Help: "Number of pods that have a running pod sandbox"}, func() float64 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			list, err := k.runtime.Sandboxes(ctx, "")
			if err != nil {
				return 0
			}
			n := 0.0
			for _, s := range list {
				if s.Ready {
					n++
				}
			}
			return n
		}),
		&containerCounts{k: k, desc: prometheus.NewDesc("kubelet_running_containers", "Number of containers currently running", []string{"container_state"}, nil)},
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "kubelet_desired_pods", Help: "The number of pods the kubelet is being instructed to run."}, func() float64 { return float64(len(k.pool.Pods())) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "kubelet_active_pods", Help: "The number of pods the kubelet considers active and which are being considered when admitting new pods."}, func() float64 { return float64(len(k.pool.Active())) }),
	)
	if k.issuer != nil {
		m.registry.MustRegister(&certificateCounts{k.issuer, prometheus.NewDesc("kubelet_podcertificate_states",
			"Gauge vector reporting the number of pod certificate projected volume sources, faceted by signer_name and state.", []string{"signer_name", "state"}, nil)})
	}
	return m
}

// probe counts one run of a probe.
func (m *meters) probe(pod *corev1.Pod, container string, kind probe.Kind, result probe.Outcome) {
	r := map[probe.Outcome]string{probe.Success: "successful", probe.Warning: "successful", probe.Failure: "failed", probe.Unknown: "unknown"}[result]
	m.total.WithLabelValues(container, pod.Namespace, pod.Name, string(pod.UID), string(kind), r).Inc()
}

// containerCounts counts containers by state when scraped.
type containerCounts struct {
	k    *kubelet
	desc *prometheus.Desc
}

// Describe tells what is collected.
func (c *containerCounts) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect asks the runtime.
func (c *containerCounts) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	list, err := c.k.runtime.Containers(ctx, "")
	if err != nil {
		return
	}
	n := map[podstate.State]int{}
	for _, x := range list {
		n[x.State]++
	}
	for state, count := range n {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(count), string(state))
	}
}

// certificateCounts counts podCertificate sources by signer and state when scraped.
type certificateCounts struct {
	issuer *podcert.Issuer
	desc   *prometheus.Desc
}

// Describe tells what is collected.
func (c *certificateCounts) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect asks the issuer.
func (c *certificateCounts) Collect(ch chan<- prometheus.Metric) {
	for x, n := range c.issuer.Counts(time.Now()) {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(n), x.Signer, x.State)
	}
}
