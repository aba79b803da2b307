package expression

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	celmetrics "k8s.io/apiserver/pkg/cel/metrics"
)

func TestForward(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	Forward(reg)
	counts := func() map[string]uint64 {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]uint64{}
		for _, f := range families {
			out[f.GetName()] = f.GetMetric()[0].GetHistogram().GetSampleCount()
		}
		return out
	}
	before := counts()
	celmetrics.Metrics.ObserveCompilation(time.Second)
	celmetrics.Metrics.ObserveEvaluation(time.Second)
	celmetrics.Metrics.ObserveEvaluation(time.Second)
	after := counts()
	for name, more := range map[string]uint64{"apiserver_cel_compilation_duration_seconds": 1, "apiserver_cel_evaluation_duration_seconds": 2} {
		if _, ok := before[name]; !ok || after[name]-before[name] != more {
			t.Errorf("%s: %d, then %d", name, before[name], after[name])
		}
	}
}
