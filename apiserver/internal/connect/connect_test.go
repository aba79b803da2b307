package connect

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/rest"
)

// onePod is a Reader with one pod.
type onePod struct{ pod *corev1.Pod }

func (o onePod) Read(schema.GroupVersionResource, string, string) (runtime.Object, error) {
	return o.pod, nil
}

func (o onePod) Each(schema.GroupVersionResource, string, func(runtime.Object) bool) error {
	return nil
}

func TestProxyRewrites(t *testing.T) {
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/there/", http.StatusFound)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<a href="/x">%s</a>`, r.Method)
	}))
	defer behind.Close()
	at, err := url.Parse(behind.URL)
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Status: corev1.PodStatus{PodIP: at.Hostname()}}
	c := New(Config{}, onePod{pod}, zap.NewNop())
	info := &rest.Info{Namespace: "ns", Resource: "pods", Name: "web:" + at.Port(), Subresource: "proxy"}
	base := "/api/v1/namespaces/ns/pods/" + info.Name + "/proxy"
	for scenario, tc := range map[string]struct {
		method, path   string
		code           int
		location, body string
	}{
		"page":         {http.MethodGet, "/", 200, "", `<a href="` + base + `/x">GET</a>`},
		"options":      {http.MethodOptions, "", 200, "", `<a href="` + base + `/x">OPTIONS</a>`},
		"redirect":     {http.MethodGet, "/moved", 302, base + "/there/", ""},
		"slash is due": {http.MethodGet, "", 301, base + "/", ""},
	} {
		t.Run(scenario, func(t *testing.T) {
			w := httptest.NewRecorder()
			if err := c.Connect(w, httptest.NewRequest(tc.method, base+tc.path, nil), info); err != nil {
				t.Fatal(err)
			}
			resp := w.Result()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tc.code || resp.Header.Get("Location") != tc.location {
				t.Errorf("got %d, location %q", resp.StatusCode, resp.Header.Get("Location"))
			}
			if tc.body != "" && string(body) != tc.body {
				t.Errorf("got %s, want %s", body, tc.body)
			}
		})
	}
}
