package cert

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"flagship/controller-manager/internal/loop"
	"flagship/internal/decision"
	"flagship/internal/kube"
)

func TestPodRequestOver(t *testing.T) {
	made := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := &certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(made)}}
	for age, want := range map[time.Duration]bool{0: false, 15*time.Minute - 1: false, 15 * time.Minute: true, time.Hour: true} {
		if got := podRequestOver(r, made.Add(age)); got != want {
			t.Errorf("after %s: over %t, want %t", age, got, want)
		}
	}
}

// TestPodRequestCleaner runs the controller against a server with an old request, one just at its end and a younger one:
// the first two are deleted, by UID, and the failure of one does not keep the other.
func TestPodRequestCleaner(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	deleted := make(chan string, 8)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.Method == http.MethodDelete:
			body, _ := io.ReadAll(r.Body)
			var o metav1.DeleteOptions
			if err := json.Unmarshal(body, &o); err != nil || o.Preconditions == nil || o.Preconditions.UID == nil {
				t.Errorf("delete without a UID: %s", body)
				return
			}
			deleted <- strings.TrimPrefix(r.URL.Path, "/apis/certificates.k8s.io/v1/namespaces/") + " " + string(*o.Preconditions.UID)
			if strings.HasSuffix(r.URL.Path, "/old") {
				w.WriteHeader(http.StatusInternalServerError)
			}
			_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1"}`)
		case r.URL.Query().Get("watch") != "":
			if r.URL.Query().Get("sendInitialEvents") == "true" {
				w.WriteHeader(http.StatusUnprocessableEntity)
				_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
				return
			}
			<-r.Context().Done()
		default:
			var items []string
			for name, age := range map[string]time.Duration{"old": time.Hour, "over": keepPodRequest, "young": keepPodRequest - time.Second} {
				items = append(items, fmt.Sprintf(`{"metadata":{"namespace":"ns","name":%q,"uid":"u-%s","creationTimestamp":%q},"spec":{"stubPKCS10Request":"eA=="},"status":{}}`,
					name, name, now.Add(-age).Format(time.RFC3339)))
			}
			_, _ = io.WriteString(w, `{"kind":"PodCertificateRequestList","apiVersion":"certificates.k8s.io/v1","metadata":{"resourceVersion":"1"},"items":[`+strings.Join(items, ",")+`]}`)
		}
	}))
	defer srv.Close()
	client, err := kube.NewClient(&rest.Config{Host: srv.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}, loop.Kinds()...)
	if err != nil {
		t.Fatal(err)
	}
	sources := loop.NewSources(client)
	ctl := NewPodRequestCleaner(loop.Deps{
		Name: "podcertificaterequest-cleaner-controller", Log: zap.NewNop(), Client: client, Sources: sources, Decisions: decision.NewLog("t", 8), Now: func() time.Time { return now },
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- sources.Run(ctx) }()
	go func() { ended <- ctl.Run(ctx) }()
	got := map[string]bool{}
	for range 2 {
		select {
		case d := <-deleted:
			got[d] = true
		case <-time.After(20 * time.Second):
			t.Error("nothing more is deleted after 20 s")
		}
	}
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	close(deleted)
	for d := range deleted {
		t.Errorf("deleted too: %s", d)
	}
	for _, want := range []string{"ns/podcertificaterequests/old u-old", "ns/podcertificaterequests/over u-over"} {
		if !got[want] {
			t.Errorf("not deleted: %s (of %v)", want, got)
		}
	}
	if all := sources.PodCertificateRequests().All(); len(all) != 3 || len(all[0].Spec.StubPKCS10Request) != 0 {
		t.Errorf("cached: %v", all)
	}
}
