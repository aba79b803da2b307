package connect

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/websocket"

	"flagship/apiserver/internal/rest"
)

func TestSocketLog(t *testing.T) {
	kubelet := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/none" {
			http.Error(w, "no such container", http.StatusNotFound)
			return
		}
		fmt.Fprint(w, "one\ntwo\n")
	}))
	defer kubelet.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to, err := url.Parse(kubelet.URL + r.URL.Path)
		if err != nil {
			t.Error(err)
		}
		if err := socketLog(w, r, to, http.DefaultTransport); err != nil {
			rest.WriteError(w, r, err)
		}
	}))
	defer server.Close()
	address := strings.Replace(server.URL, "http", "ws", 1)

	for scenario, protocol := range map[string]string{"binary": "binary.k8s.io", "base64": "base64.binary.k8s.io"} {
		t.Run(scenario, func(t *testing.T) {
			ws, err := websocket.Dial(address+"/log", protocol, server.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = ws.Close() }()
			var got []string
			for {
				var message []byte
				if websocket.Message.Receive(ws, &message) != nil {
					break
				}
				if len(message) > 0 { // the first is empty
					got = append(got, string(message))
				}
			}
			want := []string{"one\ntwo\n"}
			if scenario == "base64" {
				want = []string{"b25lCnR3bwo="}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		if _, err := websocket.Dial(address+"/none", "binary.k8s.io", server.URL); err == nil {
			t.Error("a log that is not there: the connection was taken over")
		}
	})
}
