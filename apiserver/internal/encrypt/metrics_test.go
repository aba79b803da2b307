package encrypt

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// gathered are the values of a metric by its labels, in the order of their names; counts of histograms.
func gathered(t *testing.T, reg prometheus.Gatherer, name string) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			out[strings.Join(labels, " ")] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return out
}

func want(t *testing.T, got map[string]float64, pairs ...any) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if n := got[pairs[i].(string)]; n != float64(pairs[i+1].(int)) {
			t.Errorf("%s: %v of %v", pairs[i], n, got)
		}
	}
	if len(got) != len(pairs)/2 {
		t.Errorf("series %v", got)
	}
}

func TestTransformationMetrics(t *testing.T) {
	tr := transformer(t, config("secrets", key("aesgcm", "two", secretB), key("aesgcm", "one", secretA), "{identity: {}}"))
	reg := prometheus.NewRegistry()
	tr.cfg.Metrics = NewMetrics(reg, "me")
	old, err := transformer(t, config("secrets", key("aesgcm", "one", secretA))).ToStorage(t.Context(), place, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	stored, err := tr.ToStorage(t.Context(), place, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{stored, stored, old, []byte("plain"), []byte("k8s:enc:aesgcm:v1:one:wrong"), []byte("k8s:enc:gone:x")} {
		_, _, _ = tr.FromStorage(t.Context(), place, data)
	}
	// What no rule names is not counted.
	if _, err := tr.ToStorage(t.Context(), "/registry//configmaps/a", []byte("x")); err != nil {
		t.Error(err)
	}
	if _, _, err := tr.FromStorage(t.Context(), "/registry//configmaps/a", []byte("x")); err != nil {
		t.Error(err)
	}
	// The labels are resource, status, transformation_type and transformer_prefix.
	want(t, gathered(t, reg, "apiserver_storage_transformation_operations_total"),
		"secrets OK to_storage k8s:enc:aesgcm:v1:two:", 1,
		"secrets OK from_storage k8s:enc:aesgcm:v1:two:", 2,
		"secrets OK from_storage k8s:enc:aesgcm:v1:one:", 1,
		"secrets unknown-non-grpc from_storage k8s:enc:aesgcm:v1:one:", 1,
		"secrets OK from_storage identity", 1,
		"secrets unknown-non-grpc from_storage unknown", 1,
	)
	want(t, gathered(t, reg, "apiserver_storage_transformation_duration_seconds"),
		"to_storage k8s:enc:aesgcm:v1:two:", 1,
		"from_storage k8s:enc:aesgcm:v1:two:", 2,
		"from_storage k8s:enc:aesgcm:v1:one:", 1,
		"from_storage identity", 1,
	)
}

func TestKeyMetrics(t *testing.T) {
	keeper := newKeeper(t)
	tr := transformer(t, keeper.config())
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg, "me")
	tr.cfg.Metrics, tr.now.Load().services[0].metrics = m, m
	hash := func(s string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s))) }
	if err := tr.again(t.Context()); err != nil {
		t.Fatal(err)
	}
	stored, err := tr.ToStorage(t.Context(), place, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	keeper.set("two", "ok")
	if err := tr.again(t.Context()); err != nil {
		t.Fatal(err)
	}
	tr.now.Load().services[0].opened.Remove(tr.now.Load().services[0].opened.Keys()[0])
	for range 2 {
		if _, _, err := tr.FromStorage(t.Context(), place, stored); err != nil {
			t.Error(err)
		}
	}
	if _, err := tr.ToStorage(t.Context(), place, []byte("x")); err != nil {
		t.Error(err)
	}
	// The labels are apiserver_id_hash, key_id_hash, provider_name and transformation_type.
	const name = "apiserver_envelope_encryption_key_id_hash_"
	one, two := hash("me")+" "+hash("one")+" keeper", hash("me")+" "+hash("two")+" keeper"
	want(t, gathered(t, reg, name+"total"), one+" to_storage", 1, one+" from_storage", 2, two+" to_storage", 1)
	for metric, series := range map[string]int{name + "last_timestamp_seconds": 3, name + "status_last_timestamp_seconds": 2} {
		got := gathered(t, reg, metric)
		for labels, at := range got {
			if age := float64(time.Now().Unix()) - at; age < -1 || age > 60 {
				t.Errorf("%s{%s} is %v s ago", metric, labels, age)
			}
		}
		if len(got) != series {
			t.Errorf("%s: %v", metric, got)
		}
	}
	want(t, gathered(t, reg, "apiserver_storage_data_key_generation_duration_seconds"), "", 1)
	want(t, gathered(t, reg, "apiserver_storage_data_key_generation_failures_total"), "", 0)
	m.generated(time.Now(), errors.New("no"))
	want(t, gathered(t, reg, "apiserver_storage_data_key_generation_failures_total"), "", 1)
	if n := testutil.ToFloat64(m.misses); n < 1 || n > 2 {
		t.Errorf("%v misses", n)
	}
	// A service that makes up keys does not make series without a bound.
	for i := range 3 * maxKeys {
		m.usedKey(fromStorage, "keeper", fmt.Sprint(i))
		m.toldKey("keeper", fmt.Sprint(i))
	}
	for _, metric := range []string{"total", "last_timestamp_seconds", "status_last_timestamp_seconds"} {
		if n := len(gathered(t, reg, name+metric)); n != maxKeys {
			t.Errorf("%d series of %s", n, metric)
		}
	}
}

func TestTransformationsAreBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg, "me")
	for i := range maxTransformations + 50 {
		var err error
		if i%2 == 0 {
			err = errNoProvider
		}
		m.transformed(transformation{schema.GroupResource{Resource: fmt.Sprint(i)}, fromStorage, "p"}, time.Now(), err)
	}
	got := gathered(t, reg, "apiserver_storage_transformation_operations_total")
	if len(got) != maxTransformations+2 || got["other OK from_storage p"] != 25 || got["other unknown-non-grpc from_storage p"] != 25 {
		t.Errorf("%d series, %v others", len(got), got["other OK from_storage p"])
	}
}

func TestConfigurationMetrics(t *testing.T) {
	tr := transformer(t, config("secrets", "{identity: {}}"))
	reg := prometheus.NewRegistry()
	tr.cfg.Metrics = NewMetrics(reg, "me")
	server := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("me")))
	write := func(text string) string {
		if err := os.WriteFile(tr.cfg.Path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		tr.reload(t.Context(), &sync.WaitGroup{})
		return fmt.Sprintf("%s sha256:%x", server, sha256.Sum256([]byte(text)))
	}
	used := write(config("secrets", key("aesgcm", "one", secretA), "{identity: {}}"))
	write("nonsense")
	want(t, gathered(t, reg, "apiserver_encryption_config_controller_last_config_info"), used, 1)
	want(t, gathered(t, reg, "apiserver_encryption_config_controller_automatic_reloads_total"), server+" success", 1, server+" failure", 1)
	if got := gathered(t, reg, "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds"); len(got) != 2 {
		t.Error(got)
	}
}

func BenchmarkTransformed(b *testing.B) {
	m := NewMetrics(prometheus.NewRegistry(), "me")
	t := transformation{schema.GroupResource{Resource: "secrets"}, fromStorage, "k8s:enc:aesgcm:v1:one:"}
	b.ReportAllocs()
	for b.Loop() {
		m.transformed(t, time.Now(), nil)
	}
}

func BenchmarkUsedKey(b *testing.B) {
	m := NewMetrics(prometheus.NewRegistry(), "me")
	b.ReportAllocs()
	for b.Loop() {
		m.usedKey(fromStorage, "keeper", "one")
	}
}
