package encrypt

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

func FuzzEnvelope(f *testing.F) {
	e := envelope{source: source{keyID: "k", sealed: []byte("s"), annotations: map[string][]byte{"a.example.com": []byte("b")}, kind: seedSource}, data: []byte("d")}
	f.Add(e.marshal())
	f.Add([]byte("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var e, again envelope
		if e.unmarshal(data) != nil {
			return
		}
		if err := again.unmarshal(e.marshal()); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(e, again, cmp.AllowUnexported(envelope{}, source{}), cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
	})
}

func FuzzConfiguration(f *testing.F) {
	f.Add([]byte(config("secrets", key("aescbc", "one", secretA), "{identity: {}}")))
	f.Add([]byte("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n"))
	tr := &Transformer{cfg: Config{Metrics: NewMetrics(prometheus.NewRegistry(), "me")}, log: zap.NewNop()}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := tr.parse(data, true)
		if err != nil {
			return
		}
		defer c.close()
		for gr, providers := range c.rules {
			if len(providers) == 0 {
				t.Fatalf("%s has no provider", gr)
			}
			for _, p := range providers {
				if p.kms != nil {
					continue
				}
				sealed, err := p.seal("k", []byte("plain"))
				if err != nil {
					t.Fatal(err)
				}
				if got, _, err := p.open(t.Context(), "k", sealed); err != nil || string(got) != "plain" {
					t.Fatalf("%s: %q, %v", gr, got, err)
				}
			}
		}
	})
}

func FuzzStored(f *testing.F) {
	secret := []byte(strings.Repeat("a", 32))
	var boxes []box
	for _, build := range []func([]byte) (box, error){newGCM, newCBC, newSecretBox} {
		b, err := build(secret)
		if err != nil {
			f.Fatal(err)
		}
		boxes = append(boxes, b)
		sealed, err := b.seal("k", []byte("plain"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(len(boxes)-1), sealed)
	}
	seeds, err := newSeedBox(secret)
	if err != nil {
		f.Fatal(err)
	}
	boxes = append(boxes, seeds)
	f.Fuzz(func(t *testing.T, n uint8, data []byte) {
		b := boxes[int(n)%len(boxes)]
		_, _ = b.open("k", data)
		sealed, err := b.seal("k", data)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := b.open("k", sealed); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%q: %q, %v", data, got, err)
		}
	})
}
