package podcert

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"flagship/internal/kube"
)

// TestClient asks a server over HTTP: the paths, and the selector without which a node may not list.
func TestClient(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		q := r.URL.Query()
		switch {
		case r.Method == http.MethodPost && r.URL.Path == "/apis/certificates.k8s.io/v1/namespaces/ns/podcertificaterequests":
			body, _ := io.ReadAll(r.Body)
			in := certificatesv1.PodCertificateRequest{}
			if err := json.Unmarshal(body, &in); err != nil || in.GenerateName != "req-" {
				t.Errorf("created %s", body)
			}
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, `{"kind":"PodCertificateRequest","apiVersion":"certificates.k8s.io/v1","metadata":{"name":"req-x"}}`)
		case r.Method == http.MethodGet && r.URL.Path == "/api/v1/namespaces/ns/serviceaccounts/sa":
			_, _ = io.WriteString(w, `{"kind":"ServiceAccount","apiVersion":"v1","metadata":{"name":"sa","uid":"su"}}`)
		case r.URL.Path != "/apis/certificates.k8s.io/v1/podcertificaterequests" || q.Get("fieldSelector") != "spec.nodeName=n":
			t.Errorf("%s %s", r.Method, r.URL)
			w.WriteHeader(http.StatusForbidden)
		case q.Get("sendInitialEvents") != "":
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
		case q.Get("watch") != "":
			<-r.Context().Done()
		default:
			_, _ = io.WriteString(w, `{"kind":"PodCertificateRequestList","apiVersion":"certificates.k8s.io/v1","metadata":{"resourceVersion":"1"},
"items":[{"metadata":{"namespace":"ns","name":"r"},"spec":{"podUID":"u","stubPKCS10Request":"eA=="},"status":{"certificateChain":"c"}}]}`)
		}
	}))
	t.Cleanup(srv.Close) // after t.Context has ended the watch
	c, err := kube.NewClient(&rest.Config{Host: srv.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}, certificatesv1.AddToScheme, corev1.AddToScheme)
	if err != nil {
		t.Fatal(err)
	}
	client := NewClient(c)
	made, err := client.Create(t.Context(), &certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", GenerateName: "req-"}})
	if err != nil || made.Name != "req-x" {
		t.Errorf("made %v: %v", made, err)
	}
	if uid, err := client.AccountUID(t.Context(), "ns", "sa"); err != nil || uid != "su" {
		t.Errorf("account %q: %v", uid, err)
	}
	inf := client.Requests("n")
	go inf.RunWithContext(t.Context())
	if !cache.WaitForCacheSync(t.Context().Done(), inf.HasSynced) {
		t.Fatal("not synced")
	}
	obj, ok, err := inf.GetStore().GetByKey("ns/r")
	if err != nil || !ok {
		t.Fatalf("cached: %t %v", ok, err)
	}
	if r := obj.(*certificatesv1.PodCertificateRequest); r.Spec.PodUID != "u" || r.Status.CertificateChain != "c" || len(r.Spec.StubPKCS10Request) != 0 {
		t.Errorf("cached %+v", r)
	}
}
