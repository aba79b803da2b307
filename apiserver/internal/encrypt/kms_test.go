package encrypt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/kms/pkg/service"
)

// keeper is a key management service: what it seals is the plain text behind the key's name.
type keeper struct {
	path string
	grpc *service.GRPCService

	mu       sync.Mutex
	key      string
	health   string
	decrypts int
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	k := &keeper{path: filepath.Join(t.TempDir(), "kms.sock"), key: "one", health: "ok"}
	k.start(t)
	t.Cleanup(func() { k.grpc.Close() })
	return k
}

func (k *keeper) start(t *testing.T) {
	t.Helper()
	s := service.NewGRPCService(k.path, time.Second, k)
	k.grpc = s
	go func() { _ = s.ListenAndServe() }()
}

func (k *keeper) set(key, health string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.key, k.health = key, health
}

func (k *keeper) Status(context.Context) (*service.StatusResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return &service.StatusResponse{Version: "v2", Healthz: k.health, KeyID: k.key}, nil
}

func (k *keeper) Encrypt(_ context.Context, uid string, plain []byte) (*service.EncryptResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if uid == "" {
		return nil, errors.New("no uid")
	}
	return &service.EncryptResponse{Ciphertext: append([]byte(k.key+":"), plain...), KeyID: k.key, Annotations: map[string][]byte{"version.example.com": []byte("1")}}, nil
}

func (k *keeper) Decrypt(_ context.Context, uid string, r *service.DecryptRequest) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.decrypts++
	plain, ok := bytes.CutPrefix(r.Ciphertext, []byte(r.KeyID+":"))
	if !ok || uid == "" || string(r.Annotations["version.example.com"]) != "1" {
		return nil, errors.New("it was not sealed here")
	}
	return plain, nil
}

func (k *keeper) config() string {
	return config("secrets", fmt.Sprintf("{kms: {apiVersion: v2, name: keeper, endpoint: 'unix://%s', timeout: 200ms}}", k.path), "{identity: {}}")
}

// again lets a service be looked at at once.
func (t *Transformer) again(ctx context.Context) error {
	for _, k := range t.now.Load().services {
		k.mu.Lock()
		k.looked = time.Time{}
		k.mu.Unlock()
		k.silent.Store(nil)
	}
	return t.Check(ctx)
}

func TestKMS(t *testing.T) {
	keeper := newKeeper(t)
	tr := transformer(t, keeper.config())
	if err := tr.again(t.Context()); err != nil {
		t.Fatal(err)
	}
	write := func() []byte {
		t.Helper()
		stored, err := tr.ToStorage(t.Context(), place, []byte("plain"))
		if err != nil || !bytes.HasPrefix(stored, []byte("k8s:enc:kms:v2:keeper:")) || bytes.Contains(stored, []byte("plain")) {
			t.Fatalf("stored %q, %v", stored, err)
		}
		return stored
	}
	read := func(tr *Transformer, stored []byte, wantStale bool) {
		t.Helper()
		plain, stale, err := tr.FromStorage(t.Context(), place, stored)
		if err != nil || string(plain) != "plain" || stale != wantStale {
			t.Fatalf("read %q, stale %t, %v; want stale %t", plain, stale, err, wantStale)
		}
	}
	first, second := write(), write()
	if bytes.Equal(first, second) {
		t.Error("the same value is sealed the same way twice")
	}
	read(tr, first, false)
	if keeper.decrypts != 0 {
		t.Errorf("%d questions for a seed of its own", keeper.decrypts)
	}
	if _, _, err := tr.FromStorage(t.Context(), place+"b", first); err == nil {
		t.Error("a value is read at another place")
	}

	// Another process asks once for the seed, and knows it then.
	other := transformer(t, keeper.config())
	read(other, first, false)
	read(other, second, false)
	if keeper.decrypts != 1 {
		t.Errorf("%d questions for one seed", keeper.decrypts)
	}

	// A new key makes the values of the old one stale.
	keeper.set("two", "ok")
	if err := tr.again(t.Context()); err != nil {
		t.Fatal(err)
	}
	read(tr, first, true)
	read(tr, write(), false)

	// A service that is not well lets values be read, and written for a time.
	keeper.set("two", "ill")
	if err := tr.again(t.Context()); err == nil || !strings.Contains(err.Error(), "kmsv2 Provider keeper is not healthy, error: got unexpected healthz status: ill") {
		t.Errorf("health: %v", err)
	}
	read(tr, write(), false)
	k := tr.now.Load().services[0]
	old := *k.sealing.Load()
	old.expires = time.Now().Add(-time.Second)
	k.sealing.Store(&old)
	if _, err := tr.ToStorage(t.Context(), place, []byte("plain")); err == nil || !strings.Contains(err.Error(), "expired at") {
		t.Errorf("a write after the time: %v", err)
	}
	read(tr, first, true)
}

func TestKMSThatStartsLater(t *testing.T) {
	keeper := newKeeper(t)
	writer := transformer(t, keeper.config())
	if err := writer.again(t.Context()); err != nil {
		t.Fatal(err)
	}
	stored, err := writer.ToStorage(t.Context(), place, []byte("plain"))
	if err != nil {
		t.Fatal(err)
	}
	keeper.grpc.Close()

	tr := transformer(t, keeper.config())
	recovered := 0
	tr.now.Load().services[0].recovered = func() { recovered++ }
	if _, err := tr.ToStorage(t.Context(), place, nil); err == nil || !strings.Contains(err.Error(), "has not sealed a seed yet") {
		t.Errorf("a write without a service: %v", err)
	}
	start := time.Now()
	for range 20 {
		if _, _, err := tr.FromStorage(t.Context(), place, stored); err == nil || !strings.Contains(err.Error(), "failed to decrypt DEK") {
			t.Fatalf("a read without a service: %v", err)
		}
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("20 reads wait %v for a service that does not answer", took)
	}
	keeper.start(t)
	for range 50 {
		if err = tr.again(t.Context()); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil || recovered != 1 {
		t.Fatalf("recovered %d times, %v", recovered, err)
	}
	if plain, _, err := tr.FromStorage(t.Context(), place, stored); err != nil || string(plain) != "plain" {
		t.Errorf("read %q, %v", plain, err)
	}
}

// TestUpstreamEnvelope opens what upstream's code stored: by a seed, and by a key as before v1.29.
func TestUpstreamEnvelope(t *testing.T) {
	e := envelope{source: source{keyID: "k", sealed: []byte("s"), annotations: map[string][]byte{"a.b": []byte("c")}, kind: seedSource}, data: []byte("d")}
	want := "\n\x01d\x12\x01k\x1a\x01s\"\x08\n\x03a.b\x12\x01c(\x01"
	if got := string(e.marshal()); got != want {
		t.Errorf("an envelope is %q, want %q", got, want)
	}
	var back envelope
	if err := back.unmarshal([]byte(want)); err != nil || back.id() != e.id() || string(back.data) != "d" {
		t.Errorf("%+v, %v", back, err)
	}
	for text, want := range map[string]string{
		"\xff":                           "no EncryptedObject",
		"\x12\x01k\x1a\x01s":             "encrypted data is empty",
		"\n\x01d\x1a\x01s":               "keyID is empty",
		"\n\x01d\x12\x01k":               "encrypted DEK source is empty",
		"\n\x01d\x12\x01k\x1a\x01s(\x05": "unknown encryptedDEKSourceType: 5",
		"\n\x01d\x12\x01k\x1a\x01s\"\x05\n\x03a b": "annotations",
	} {
		if err := new(envelope).unmarshal([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
