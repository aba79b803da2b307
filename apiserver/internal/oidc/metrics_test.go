package oidc

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
)

func TestMetrics(t *testing.T) {
	i := newIssuer(t)
	path := filepath.Join(t.TempDir(), "config.yaml")
	const mappings = `claimMappings: {username: {claim: sub, prefix: ""}}`
	i.file(t, path, mappings, "")
	m := NewMetrics(prometheus.NewRegistry(), "me")
	p, err := New(t.Context(), Config{Path: path, Metrics: m}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ready(t, p)
	for _, claims := range []map[string]any{{"sub": "u"}, {"sub": "u"}, {}, {"iss": "https://another"}} {
		_, _, _ = p.AuthenticateToken(t.Context(), i.token(t, claims))
	}
	issuer, server := hashOf([]byte(i.URL)), hashOf([]byte("me"))
	count := func(result string) uint64 {
		reg := prometheus.NewRegistry()
		reg.MustRegister(m.took)
		families, _ := reg.Gather()
		for _, s := range families[0].GetMetric() {
			if s.GetLabel()[0].GetValue() == issuer && s.GetLabel()[1].GetValue() == result {
				return s.GetHistogram().GetSampleCount()
			}
		}
		return 0
	}
	if ok, bad := count(success), count(failure); ok != 2 || bad != 1 {
		t.Errorf("%d tokens are good and %d are not", ok, bad)
	}
	if at := testutil.ToFloat64(m.fetched.WithLabelValues(success, issuer, server)); at < 1e9 {
		t.Errorf("keys were fetched at %v", at)
	}
	if n := testutil.CollectAndCount(m.keySets); n != 1 {
		t.Errorf("%d sets of keys", n)
	}
	inForce := func() {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := testutil.ToFloat64(m.config.WithLabelValues(server, hashOf(data))); n != 1 || testutil.CollectAndCount(m.config) != 1 {
			t.Errorf("the file in force is not told: %v", n)
		}
	}
	inForce()

	// Another issuer takes the place of the first.
	old, other := p.now.Load(), newIssuer(t)
	other.file(t, path, mappings, "")
	p.reload(t.Context())
	inForce()
	p.forget(old)
	if n := testutil.CollectAndCount(m.keySets); n != 0 {
		t.Errorf("%d sets of keys of an issuer that is no more", n)
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.reload(t.Context())
	for _, status := range []string{success, failure} {
		if n := testutil.ToFloat64(m.reloads.WithLabelValues(status, server)); n != 1 {
			t.Errorf("%v reloads are a %s", n, status)
		}
		if at := testutil.ToFloat64(m.last.WithLabelValues(status, server)); at < 1e9 {
			t.Errorf("the last %s was at %v", status, at)
		}
	}

	// Keys that cannot be had.
	m.keys(i.URL, nil, os.ErrNotExist)
	if at := testutil.ToFloat64(m.fetched.WithLabelValues(failure, issuer, server)); at < 1e9 {
		t.Errorf("keys were not fetched at %v", at)
	}
}
