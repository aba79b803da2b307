package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
)

func secretOf(uid, password string) corev1.Secret {
	return corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), Namespace: "n", Name: "s" + uid}, Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{"reg.io":{"username":"u","password":"` + password + `"}}}`)},
	}
}

// registry has one image, for one password; present is what the node has.
type registry struct {
	password string
	present  bool
	pulls    int
}

func (r *registry) ImageStatus(context.Context, *runtimeapi.ImageSpec) (*runtimeapi.Image, error) {
	if !r.present {
		return nil, nil
	}
	return &runtimeapi.Image{Id: "sha256:1"}, nil
}

func (r *registry) PullImage(_ context.Context, _ *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	r.pulls++
	if auth.GetPassword() != r.password {
		return "", errors.New("401 Unauthorized")
	}
	r.present = true
	return "sha256:1", nil
}

func TestWhoMayUseAnImage(t *testing.T) {
	const name = "reg.io/team/app:1"
	tests := map[string]struct {
		policy  kubeletv1beta1.ImagePullCredentialsVerificationPolicy
		before  bool           // the image was there before the kubelet
		first   *corev1.Secret // by which another pod pulled it
		pull    corev1.PullPolicy
		secrets []corev1.Secret
		reason  string // "" for an image that may be used
		pulls   int    // by the pod itself
	}{
		"not there":                                  {policy: kubeletv1beta1.NeverVerifyPreloadedImages, pull: "IfNotPresent", secrets: []corev1.Secret{secretOf("1", "right")}, pulls: 1},
		"not there, no secret":                       {policy: kubeletv1beta1.NeverVerifyPreloadedImages, pull: "IfNotPresent", reason: ReasonPull, pulls: 1},
		"not there, a second secret fits":            {policy: kubeletv1beta1.NeverVerifyPreloadedImages, pull: "IfNotPresent", secrets: []corev1.Secret{secretOf("2", "wrong"), secretOf("1", "right")}, pulls: 2},
		"pulled by the same secret":                  {policy: kubeletv1beta1.NeverVerifyPreloadedImages, first: new(secretOf("1", "right")), pull: "IfNotPresent", secrets: []corev1.Secret{secretOf("1", "right")}},
		"pulled by an equal secret":                  {policy: kubeletv1beta1.NeverVerifyPreloadedImages, first: new(secretOf("1", "right")), pull: "IfNotPresent", secrets: []corev1.Secret{secretOf("9", "right")}},
		"the secret's content changed":               {policy: kubeletv1beta1.NeverVerifyPreloadedImages, first: new(secretOf("1", "right")), pull: "IfNotPresent", secrets: []corev1.Secret{secretOf("1", "newer")}},
		"pulled by another's secret":                 {policy: kubeletv1beta1.NeverVerifyPreloadedImages, first: new(secretOf("1", "right")), pull: "IfNotPresent", reason: ReasonPull, pulls: 1},
		"a second secret is an equal one":            {policy: kubeletv1beta1.NeverVerifyPreloadedImages, first: new(secretOf("1", "right")), pull: "IfNotPresent", secrets: []corev1.Secret{secretOf("3", "wrong"), secretOf("2", "right")}},
		"pulled by another's secret, policy Never":   {policy: kubeletv1beta1.NeverVerifyPreloadedImages, first: new(secretOf("1", "right")), pull: "Never", reason: ReasonNeverPull},
		"preloaded":                                  {policy: kubeletv1beta1.NeverVerifyPreloadedImages, before: true, pull: "IfNotPresent"},
		"preloaded, all are verified":                {policy: kubeletv1beta1.AlwaysVerify, before: true, pull: "IfNotPresent", reason: ReasonPull, pulls: 1},
		"preloaded, allowed by a prefix":             {policy: kubeletv1beta1.NeverVerifyAllowlistedImages, before: true, pull: "IfNotPresent"},
		"another's secret, none is verified":         {policy: kubeletv1beta1.NeverVerify, first: new(secretOf("1", "right")), pull: "IfNotPresent"},
		"Always asks the registry":                   {policy: kubeletv1beta1.NeverVerifyPreloadedImages, first: new(secretOf("1", "right")), pull: "Always", secrets: []corev1.Secret{secretOf("1", "right")}, pulls: 1},
		"Always, and the registry refuses":           {policy: kubeletv1beta1.NeverVerifyPreloadedImages, before: true, pull: "Always", reason: ReasonPull, pulls: 1},
		"Never, and it is not there":                 {policy: kubeletv1beta1.NeverVerifyPreloadedImages, pull: "Never", reason: ReasonNeverPull},
		"Never, and it is there from before":         {policy: kubeletv1beta1.NeverVerifyPreloadedImages, before: true, pull: "Never"},
		"Never, and the pod has the secret it needs": {policy: kubeletv1beta1.NeverVerifyPreloadedImages, first: new(secretOf("1", "right")), pull: "Never", secrets: []corev1.Secret{secretOf("1", "right")}},
	}
	for what, tc := range tests {
		t.Run(what, func(t *testing.T) {
			records, err := OpenRecords(t.TempDir(), tc.policy, []string{"reg.io/team/*"})
			if err != nil {
				t.Fatal(err)
			}
			reg := &registry{password: "right", present: tc.before}
			p := New(Config{BackoffStart: time.Second, BackoffMax: time.Minute, Records: records}, zap.NewNop(), reg, func(*corev1.Pod, string, string, string, string) {})
			ensure := func(uid string, policy corev1.PullPolicy, secrets ...corev1.Secret) error {
				_, err := p.Ensure(t.Context(), Request{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid)}}, Image: name, Policy: policy, Secrets: secrets})
				return err
			}
			if tc.first != nil {
				if err := ensure("first", "IfNotPresent", *tc.first); err != nil {
					t.Fatal(err)
				}
				reg.pulls = 0
			}
			err = ensure("pod", tc.pull, tc.secrets...)
			reason := ""
			var e *Error
			if errors.As(err, &e) {
				reason = e.Reason
			}
			if reason != tc.reason || reg.pulls != tc.pulls {
				t.Errorf("%q (%v) after %d pulls, want %q after %d", reason, err, reg.pulls, tc.reason, tc.pulls)
			}
			if left, _ := filepath.Glob(filepath.Join(records.pulling, "*")); len(left) != 0 {
				t.Errorf("intents left: %v", left)
			}
		})
	}
}

// TestKilledWhilePulling: an image whose pull the kubelet did not live to see is not one that was there before.
func TestKilledWhilePulling(t *testing.T) {
	dir := t.TempDir()
	open := func() *Records {
		t.Helper()
		r, err := OpenRecords(dir, kubeletv1beta1.NeverVerifyPreloadedImages, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if err := open().Intend("reg.io/app:1"); err != nil {
		t.Fatal(err)
	}
	r := open()
	now := time.Now()
	if !r.MustPull("reg.io/app:1", "sha256:1", nil, now) {
		t.Error("an image that was being pulled may be used by anyone")
	}
	r.Recover(map[string][]string{"sha256:1": {"reg.io/app:1"}}, now)
	if !open().MustPull("reg.io/app:1", "sha256:1", nil, now) {
		t.Error("after recovery it may be used by anyone")
	}
	r.Prune([]string{"sha256:1"}, now.Add(time.Hour))
	if entries, _ := os.ReadDir(r.pulled); len(entries) != 1 {
		t.Errorf("%d records, want 1", len(entries))
	}
	r.Prune(nil, now.Add(time.Hour))
	if entries, _ := os.ReadDir(r.pulled); len(entries) != 0 {
		t.Errorf("%d records of images that are gone", len(entries))
	}
}

func TestWithoutTag(t *testing.T) {
	for in, want := range map[string]string{
		"a": "a", "a:1": "a", "reg.io:5000/a": "reg.io:5000/a", "reg.io:5000/a:1": "reg.io:5000/a", "a@sha256:" + strings.Repeat("0", 64): "a", "a:1@sha256:" + strings.Repeat("0", 64): "a",
	} {
		if got := withoutTag(in); got != want {
			t.Errorf("withoutTag(%s) = %s, want %s", in, got, want)
		}
	}
}

func TestKeyring(t *testing.T) {
	secret := func(kind corev1.SecretType, key, text string) corev1.Secret {
		return corev1.Secret{Type: kind, Data: map[string][]byte{key: []byte(text)}}
	}
	ring := NewKeyring([]corev1.Secret{
		secret(corev1.SecretTypeDockerConfigJson, corev1.DockerConfigJsonKey, `{"auths":{"https://reg.io/v2/":{"auth":"dXNlcjpwOnE="},"reg.io/team":{"username":"team"},"*.wild.io":{"username":"wild"},"localhost:5000":{"username":"local"}}}`),
		secret(corev1.SecretTypeDockercfg, corev1.DockerConfigKey, `{"index.docker.io":{"username":"hub"}}`),
		secret(corev1.SecretTypeOpaque, corev1.DockerConfigJsonKey, `{"auths":{"reg.io":{"username":"not a pull secret"}}}`),
		secret(corev1.SecretTypeDockerConfigJson, corev1.DockerConfigJsonKey, `{`),
	})
	for image, want := range map[string][]string{
		"reg.io/app": {"user"}, "reg.io/team/app:1": {"team", "user"}, "a.wild.io/app": {"wild"}, "a.b.wild.io/app": nil, "busybox": {"hub"}, "docker.io/library/busybox": {"hub"},
		"localhost:5000/x": {"local"}, "localhost:5001/x": nil, "other.io/app": nil,
	} {
		var got []string
		for _, c := range ring.Lookup(image) {
			got = append(got, c.Auth.Username)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", image, diff)
		}
	}
	if got := ring.Lookup("reg.io/app")[0].Auth.Password; got != "p:q" {
		t.Errorf("password %q: only the first colon separates", got)
	}
}

func TestBackoffOfPulls(t *testing.T) {
	p := New(Config{BackoffStart: 10 * time.Second, BackoffMax: 300 * time.Second}, zap.NewNop(), nil, nil)
	now := time.Unix(0, 0)
	var waits []time.Duration
	for range 7 {
		until := p.failed("k", "x", now)
		waits = append(waits, until.Sub(now))
		if _, w := p.waiting("k", until.Add(-time.Second)); w.IsZero() {
			t.Error("no back-off before its end")
		}
		now = until
	}
	want := []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 300 * time.Second, 300 * time.Second}
	if diff := cmp.Diff(want, waits); diff != "" {
		t.Errorf("waits (-want +got):\n%s", diff)
	}
}
