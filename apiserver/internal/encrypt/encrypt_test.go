package encrypt

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Secrets of 32 bytes, in base64.
const (
	secretA = "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE="
	secretB = "YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI="
)

func key(provider, name, secret string) string {
	return fmt.Sprintf("{%s: {keys: [{name: %s, secret: %s}]}}", provider, name, secret)
}

func config(resources string, providers ...string) string {
	return fmt.Sprintf("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [%s]\n  providers: [%s]\n", resources, strings.Join(providers, ", "))
}

// transformer reads a configuration; keys are /registry/GROUP/RESOURCE/NAME.
func transformer(t *testing.T, text string) *Transformer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "encryption.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	tr, err := New(t.Context(), Config{Path: path, Reload: true, Metrics: NewMetrics(prometheus.NewRegistry(), "me"), ResourceOf: func(key string) schema.GroupResource {
		parts := strings.Split(key, "/")
		return schema.GroupResource{Group: parts[2], Resource: parts[3]}
	}}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

const place = "/registry//secrets/a"

func TestRoundTrip(t *testing.T) {
	for _, provider := range []string{"aescbc", "aesgcm", "secretbox"} {
		tr := transformer(t, config("secrets", key(provider, "one", secretA), "{identity: {}}"))
		for n := range 50 {
			plain := bytes.Repeat([]byte{byte(n)}, n)
			stored, err := tr.ToStorage(t.Context(), place, plain)
			if err != nil || !bytes.HasPrefix(stored, []byte("k8s:enc:"+provider+":v1:one:")) {
				t.Fatalf("%s: %q, %v", provider, stored, err)
			}
			got, stale, err := tr.FromStorage(t.Context(), place, stored)
			if err != nil || stale || !bytes.Equal(got, plain) {
				t.Fatalf("%s: %d bytes are read as %q, stale %t, %v", provider, n, got, stale, err)
			}
			again, err := tr.ToStorage(t.Context(), place, plain)
			if err != nil || bytes.Equal(again, stored) {
				t.Fatalf("%s: the same value is stored in the same way twice, %v", provider, err)
			}
			for cut := range stored {
				// Cut values are an error or another value (of an unauthenticated cipher), never a panic.
				if got, _, err := tr.FromStorage(t.Context(), place, stored[:cut]); err == nil && provider != "aescbc" && bytes.HasPrefix(stored[:cut], encrypted) {
					t.Fatalf("%s: %d of %d bytes are read as %q", provider, cut, len(stored), got)
				}
			}
		}
		if other, err := tr.ToStorage(t.Context(), "/registry//configmaps/a", []byte("x")); err != nil || string(other) != "x" {
			t.Errorf("%s: a resource without a rule is stored as %q, %v", provider, other, err)
		}
	}
}

func TestKeyBindsValue(t *testing.T) {
	tr := transformer(t, config("secrets", key("aesgcm", "one", secretA)))
	stored, err := tr.ToStorage(t.Context(), place, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := tr.FromStorage(t.Context(), "/registry//secrets/b", stored); err == nil {
		t.Errorf("the value of another key is read as %q", got)
	}
}

// TestRotation goes from one key to another and back to no encryption, by the steps of the documentation.
func TestRotation(t *testing.T) {
	one, two, none := key("aescbc", "one", secretA), key("secretbox", "two", secretB), "{identity: {}}"
	tr := transformer(t, config("secrets", none))
	value := []byte("plain")
	step := func(wantPrefix string, wantStale bool, providers ...string) {
		t.Helper()
		if err := os.WriteFile(tr.cfg.Path, []byte(config("secrets", providers...)), 0o600); err != nil {
			t.Fatal(err)
		}
		tr.reload(t.Context(), &sync.WaitGroup{})
		plain, stale, err := tr.FromStorage(t.Context(), place, value)
		if err != nil || string(plain) != "plain" || stale != wantStale {
			t.Fatalf("read %q, stale %t, %v; want stale %t", plain, stale, err, wantStale)
		}
		if value, err = tr.ToStorage(t.Context(), place, plain); err != nil || !bytes.HasPrefix(value, []byte(wantPrefix)) {
			t.Fatalf("stored %q, %v; want %s first", value, err, wantPrefix)
		}
	}
	step("k8s:enc:aescbc:v1:one:", true, one, none)
	step("k8s:enc:aescbc:v1:one:", false, one, two, none)
	step("k8s:enc:secretbox:v1:two:", true, two, one, none)
	step("k8s:enc:secretbox:v1:two:", false, two)
	step("plain", true, none, two)
	step("plain", false, none)

	// A file that cannot be used changes nothing.
	if err := os.WriteFile(tr.cfg.Path, []byte(config("secrets", key("aescbc", "one", "short"))), 0o600); err != nil {
		t.Fatal(err)
	}
	tr.reload(t.Context(), &sync.WaitGroup{})
	if got, _, err := tr.FromStorage(t.Context(), place, value); err != nil || string(got) != "plain" {
		t.Errorf("after a bad file: %q, %v", got, err)
	}
}

func TestWithoutTheKey(t *testing.T) {
	stored, err := transformer(t, config("secrets", key("aesgcm", "one", secretA))).ToStorage(t.Context(), place, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"another secret": config("secrets", key("aesgcm", "one", secretB)), "another name": config("secrets", key("aesgcm", "two", secretA)),
		"identity": config("secrets", "{identity: {}}"), "no rule": config("configmaps", "{identity: {}}"),
	} {
		_, _, err := transformer(t, text).FromStorage(t.Context(), place, stored)
		if want := map[bool]string{true: "message authentication failed", false: "no matching prefix found"}[name == "another secret"]; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRules(t *testing.T) {
	tr := transformer(t, `apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [events]
  providers: [{identity: {}}]
- resources: ["*.apps", foos.example.com]
  providers: [`+key("aesgcm", "apps", secretA)+`]
- resources: ["*.*"]
  providers: [`+key("aesgcm", "rest", secretA)+`]
`)
	for place, want := range map[string]string{
		"/registry//events/a": "x", "/registry/apps/deployments/a": "k8s:enc:aesgcm:v1:apps:", "/registry/example.com/foos/a": "k8s:enc:aesgcm:v1:apps:",
		"/registry/example.com/bars/a": "k8s:enc:aesgcm:v1:rest:", "/registry//secrets/a": "k8s:enc:aesgcm:v1:rest:",
	} {
		if got, err := tr.ToStorage(t.Context(), place, []byte("x")); err != nil || !bytes.HasPrefix(got, []byte(want)) {
			t.Errorf("%s: %q, %v; want %s", place, got, err, want)
		}
	}
}

func TestBadConfigurations(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "",
		"kind: Pod\napiVersion: v1": "no kind",
		config("secrets"):           "resources[0].providers: Required value",
		config("secrets", "{kms: {name: a, apiVersion: v1, endpoint: 'unix:///a', timeout: 3s, cachesize: 5}}"): "use v2",
		config("secrets", key("aescbc", "one", "YQ==")):                                                         "secret is not of the expected length",
		config("secrets", "{identity: {}, aescbc: {}}"):                                                         "more than one provider",
		config("secrets", "{identiti: {}}"):                                                                     "unknown field",
		config(`"*.", secrets`, "{identity: {}}"):                                                               "overlapping resources",
		config(`"*.*"`, "{identity: {}}") + "- resources: [secrets]\n  providers: [{identity: {}}]":             `resource "secrets" is masked by earlier rule "*.*"`,
	} {
		if _, err := (&Transformer{log: zap.NewNop()}).parse([]byte(text), false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngives %v, want %q", text, err, want)
		}
	}
}
