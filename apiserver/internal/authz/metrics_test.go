package authz

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

type decides struct {
	d   Decision
	err error
}

func (d decides) Authorize(context.Context, Attributes) (Decision, string, error) {
	return d.d, "", d.err
}

func TestAttempts(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	failure := errors.New("no")
	for _, d := range []decides{{d: Allow}, {Allow, failure}, {d: Deny}, {Deny, failure}, {d: NoOpinion}, {NoOpinion, failure}} {
		_, _, _ = m.Counted(d).Authorize(t.Context(), Attributes{})
	}
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP authorization_attempts_total [ALPHA] Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', 'no-opinion' or 'error'.
# TYPE authorization_attempts_total counter
authorization_attempts_total{result="allowed"} 2
authorization_attempts_total{result="denied"} 1
authorization_attempts_total{result="error"} 2
authorization_attempts_total{result="no-opinion"} 1
`), "authorization_attempts_total")
	if err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(reg, "authorization_duration_seconds"); n != 4 || err != nil {
		t.Error(n, err)
	}
}

func BenchmarkCounted(b *testing.B) {
	c := NewMetrics(prometheus.NewRegistry()).Counted(decides{d: Allow})
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = c.Authorize(b.Context(), Attributes{})
	}
}
