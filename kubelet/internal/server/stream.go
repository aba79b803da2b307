package server

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"flagship/kubelet/internal/cri"
)

func flag(q url.Values, name string) bool {
	v := q.Get(name)
	return v == "1" || v == "true"
}

// container finds the runtime ID of a pod's container.
func (s *Server) container(w http.ResponseWriter, r *http.Request) (string, bool) {
	name := r.PathValue("container")
	_, st, ok := s.find(r.PathValue("namespace"), r.PathValue("pod"), types.UID(r.PathValue("uid")))
	if !ok {
		http.Error(w, "pod does not exist", http.StatusNotFound)
		return "", false
	}
	for _, list := range [][]corev1.ContainerStatus{st.ContainerStatuses, st.InitContainerStatuses, st.EphemeralContainerStatuses} {
		for _, c := range list {
			if c.Name == name && c.ContainerID != "" {
				_, id, _ := strings.Cut(c.ContainerID, "://")
				return id, true
			}
		}
	}
	http.Error(w, fmt.Sprintf("container not found (%q)", name), http.StatusNotFound)
	return "", false
}

func (s *Server) exec(w http.ResponseWriter, r *http.Request) {
	id, ok := s.container(w, r)
	if !ok {
		return
	}
	q := r.URL.Query()
	target, err := s.deps.Runtime.ExecURL(r.Context(), &runtimeapi.ExecRequest{
		ContainerId: id, Cmd: q["command"], Tty: flag(q, "tty"), Stdin: flag(q, "input"), Stdout: flag(q, "output"),
		Stderr: flag(q, "error") && !flag(q, "tty"),
	})
	s.proxy(w, r, target, err)
}

func (s *Server) attach(w http.ResponseWriter, r *http.Request) {
	id, ok := s.container(w, r)
	if !ok {
		return
	}
	q := r.URL.Query()
	target, err := s.deps.Runtime.AttachURL(r.Context(), &runtimeapi.AttachRequest{
		ContainerId: id, Tty: flag(q, "tty"), Stdin: flag(q, "input"), Stdout: flag(q, "output"), Stderr: flag(q, "error") && !flag(q, "tty"),
	})
	s.proxy(w, r, target, err)
}

func (s *Server) portForward(w http.ResponseWriter, r *http.Request) {
	pod, _, ok := s.find(r.PathValue("namespace"), r.PathValue("pod"), types.UID(r.PathValue("uid")))
	if !ok {
		http.Error(w, "pod does not exist", http.StatusNotFound)
		return
	}
	state, err := s.deps.Runtime.Pod(r.Context(), pod.UID)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	sb := state.ReadySandbox()
	if sb == nil {
		http.Error(w, fmt.Sprintf("pod %s has no running sandbox", pod.Name), http.StatusInternalServerError)
		return
	}
	var ports []int32
	for _, p := range append(r.URL.Query()["port"], r.URL.Query()["ports"]...) {
		for _, one := range strings.Split(p, ",") {
			n, err := strconv.ParseUint(one, 10, 16)
			if err != nil || n == 0 {
				http.Error(w, fmt.Sprintf("unable to parse %q as a port", one), http.StatusBadRequest)
				return
			}
			ports = append(ports, int32(n))
		}
	}
	target, err := s.deps.Runtime.PortForwardURL(r.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: sb.ID, Port: ports})
	s.proxy(w, r, target, err)
}

// proxy passes the request, upgrade and all, to the runtime's streaming address.
func (s *Server) proxy(w http.ResponseWriter, r *http.Request, target string, err error) {
	if err != nil {
		http.Error(w, cri.Message(err), http.StatusInternalServerError)
		return
	}
	u, err := url.Parse(target)
	if err != nil {
		http.Error(w, fmt.Sprintf("runtime's streaming URL: %v", err), http.StatusInternalServerError)
		return
	}
	p := &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL, pr.Out.Host = u, u.Host
			pr.Out.Header.Del("Authorization")
			// A browser's origin is the API server's matter, not the runtime's.
			pr.Out.Header.Del("Origin")
		},
		FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, fmt.Sprintf("error dialing backend: %v", err), http.StatusBadGateway)
		},
	}
	p.ServeHTTP(w, r)
}

// run executes a command and answers with its output.
func (s *Server) run(w http.ResponseWriter, r *http.Request) {
	id, ok := s.container(w, r)
	if !ok {
		return
	}
	res, err := s.deps.Runtime.ExecSync(r.Context(), id, strings.Fields(r.URL.Query().Get("cmd")), time.Duration(0))
	if err != nil {
		http.Error(w, cri.Message(err), http.StatusInternalServerError)
		return
	}
	if res.ExitCode != 0 {
		w.WriteHeader(http.StatusInternalServerError)
	}
	_, _ = w.Write(append(res.Stdout, res.Stderr...))
}
