package admission

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	imagepolicyv1alpha1 "k8s.io/api/imagepolicy/v1alpha1"
)

func TestImagePolicy(t *testing.T) {
	var asked atomic.Int32
	var last imagepolicyv1alpha1.ImageReviewSpec
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		var in imagepolicyv1alpha1.ImageReview
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		last = in.Spec
		in.Status.Allowed = in.Spec.Containers[0].Image == "good"
		switch in.Spec.Containers[0].Image {
		case "bad":
			in.Status.Reason = "of no name"
		case "broken":
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		in.Status.AuditAnnotations = map[string]string{"seen": "yes"}
		_ = json.NewEncoder(w).Encode(in)
	}))
	defer server.Close()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: %q}}], contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u}]}", server.URL)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	plugin := func(more string) Chain {
		t.Helper()
		off, err := New(Config{}, Deps{})
		if err != nil {
			t.Fatal(err)
		}
		chain, err := New(Config{Enable: []string{"ImagePolicyWebhook"}, Disable: off.Names(), Files: Files{"ImagePolicyWebhook": fmt.Appendf(nil, "imagePolicy: {kubeConfigFile: %s, retryBackoff: 1%s}", kubeconfig, more)}}, Deps{})
		if err != nil {
			t.Fatal(err)
		}
		return chain
	}
	pod := func(image string) *Attributes {
		return createPod(t, "{containers: [{name: c, image: "+image+"}], initContainers: [{name: i, image: init}]}")
	}
	chain := plugin("")
	a := pod("good")
	a.Object.(*corev1.Pod).Annotations = map[string]string{"team.image-policy.k8s.io/ticket": "1", "other": "2"}
	wantError(t, "allowed", run(t, chain, a), "")
	want := imagepolicyv1alpha1.ImageReviewSpec{
		Containers:  []imagepolicyv1alpha1.ImageReviewContainerSpec{{Image: "good"}, {Image: "init"}},
		Annotations: map[string]string{"team.image-policy.k8s.io/ticket": "1"}, Namespace: "ns",
	}
	if d := cmp.Diff(want, last); d != "" {
		t.Errorf("asked (-want +got):\n%s", d)
	}
	if a.Annotations["imagepolicywebhook.image-policy.k8s.io/seen"] != "yes" {
		t.Errorf("audit annotations %v", a.Annotations)
	}
	for range 3 {
		wantError(t, "denied", run(t, chain, pod("bad")), `pods "p" is forbidden: image policy webhook backend denied one or more images: of no name`)
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times about two pods: the answers are kept", n)
	}
	wantError(t, "without a reason", run(t, chain, pod("poor")), `pods "p" is forbidden: one or more images rejected by webhook backend`)
	if err := run(t, chain, pod("broken")); err == nil || !strings.Contains(err.Error(), `pods "p" is forbidden: `) {
		t.Errorf("no answer: %v", err)
	}
	open := pod("broken")
	wantError(t, "no answer, let in", run(t, plugin(", defaultAllow: true"), open), "")
	if open.Annotations["imagepolicywebhook.image-policy.k8s.io/failed-open"] != "true" || open.Object.(*corev1.Pod).Annotations["alpha.image-policy.k8s.io/failed-open"] != "true" {
		t.Errorf("audit annotations %v, the pod's %v", open.Annotations, open.Object.(*corev1.Pod).Annotations)
	}
	chain = plugin(", denyTTL: -1")
	before := asked.Load()
	for range 2 {
		_ = run(t, chain, pod("bad"))
	}
	if n := asked.Load() - before; n != 2 {
		t.Errorf("asked %d times, and nothing is kept", n)
	}
	for text, want := range map[string]string{
		"":                                    "no config specified",
		"imagePolicy: {kubeConfigFile: gone}": "gone",
		"imagePolicy: {kubeConfigFile: " + kubeconfig + ", allowTTL: 3600}":       "valid value is between 1s and 30m0s, got 1h0m0s",
		"imagePolicy: {kubeConfigFile: " + kubeconfig + ", retryBackoff: 600000}": "got 10m0s",
	} {
		files := Files{"ImagePolicyWebhook": []byte(text)}
		if text == "" {
			files = nil
		}
		if _, err := New(Config{Enable: []string{"ImagePolicyWebhook"}, Files: files}, Deps{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
