package server

import (
	"context"
	"encoding/json"
	"net/http"
	"os"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/kubelet/internal/cri"
	"flagship/kubelet/internal/resource"
)

// Deps is what the server answers from.
type Deps struct {
	Log      *zap.Logger
	Runtime  *cri.Client
	Pods     func() []*corev1.Pod
	Status   func(uid types.UID) (corev1.PodStatus, bool)
	Static   func(uid types.UID) types.UID // translates the UID of a mirror pod
	Node     string
	NodeFS   string
	PodsDir  string
	ImageFS  func(ctx context.Context) string
	Cgroup   func(pod *corev1.Pod) string
	V2       bool
	Machine  resource.Machine
	Start    metav1.Time
	LogsRoot string       // /var/log, served below /logs/
	Debug    bool         // enableDebuggingHandlers
	Prober   http.Handler // /metrics/probes
}

// Server answers requests.
type Server struct{ deps Deps }

// New returns a Server.
func New(d Deps) *Server { return &Server{deps: d} }

// Mux is where handlers are registered.
type Mux interface {
	Handle(pattern string, h http.Handler)
}

// Register adds the kubelet's endpoints.
func (s *Server) Register(mux Mux) {
	read := func(pattern string, f http.HandlerFunc) { mux.Handle(pattern, f) }
	read("GET /pods", s.pods)
	read("GET /pods/", s.pods)
	read("GET /stats/summary", s.summary)
	read("POST /stats/summary", s.summary)
	read("GET /metrics/resource", s.resourceMetrics)
	read("GET /metrics/cadvisor", s.cadvisorMetrics)
	mux.Handle("GET /metrics/probes", s.deps.Prober)
	if !s.deps.Debug {
		return
	}
	read("GET /runningpods", s.runningPods)
	read("GET /runningpods/", s.runningPods)
	read("GET /containerLogs/{namespace}/{pod}/{container}", s.containerLogs)
	for _, m := range []string{"GET", "POST"} {
		read(m+" /exec/{namespace}/{pod}/{container}", s.exec)
		read(m+" /exec/{namespace}/{pod}/{uid}/{container}", s.exec)
		read(m+" /attach/{namespace}/{pod}/{container}", s.attach)
		read(m+" /attach/{namespace}/{pod}/{uid}/{container}", s.attach)
		read(m+" /portForward/{namespace}/{pod}", s.portForward)
		read(m+" /portForward/{namespace}/{pod}/{uid}", s.portForward)
	}
	read("POST /run/{namespace}/{pod}/{container}", s.run)
	read("POST /run/{namespace}/{pod}/{uid}/{container}", s.run)
	read("POST /checkpoint/{namespace}/{pod}/{container}", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "checkpoint: not supported by this kubelet", http.StatusNotImplemented)
	})
	mux.Handle("GET /logs/", http.StripPrefix("/logs/", http.FileServerFS(os.DirFS(s.deps.LogsRoot))))
}

// RegisterReadOnly adds what the read-only port serves.
func (s *Server) RegisterReadOnly(mux Mux) {
	mux.Handle("GET /pods", http.HandlerFunc(s.pods))
	mux.Handle("GET /stats/summary", http.HandlerFunc(s.summary))
	mux.Handle("GET /metrics/resource", http.HandlerFunc(s.resourceMetrics))
	mux.Handle("GET /metrics/cadvisor", http.HandlerFunc(s.cadvisorMetrics))
	mux.Handle("GET /metrics/probes", s.deps.Prober)
}

func writeJSON(w http.ResponseWriter, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data)
}

func (s *Server) pods(w http.ResponseWriter, _ *http.Request) {
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{}}
	for _, p := range s.deps.Pods() {
		c := *p
		if st, ok := s.deps.Status(p.UID); ok {
			c.Status = st
		}
		list.Items = append(list.Items, c)
	}
	writeJSON(w, list)
}

func (s *Server) runningPods(w http.ResponseWriter, r *http.Request) {
	containers, err := s.deps.Runtime.Containers(r.Context(), "")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{}}
	index := map[string]int{}
	for _, c := range containers {
		if c.State != "running" {
			continue
		}
		i, ok := index[c.PodUID]
		if !ok {
			i = len(list.Items)
			index[c.PodUID] = i
			list.Items = append(list.Items, corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: c.PodName, Namespace: c.PodNamespace, UID: types.UID(c.PodUID)}})
		}
		list.Items[i].Spec.Containers = append(list.Items[i].Spec.Containers, corev1.Container{Name: c.Name, Image: c.Image})
	}
	writeJSON(w, list)
}

// find returns the pod and its newest status.
func (s *Server) find(namespace, name string, uid types.UID) (*corev1.Pod, corev1.PodStatus, bool) {
	if uid != "" {
		uid = s.deps.Static(uid)
	}
	for _, p := range s.deps.Pods() {
		if p.Namespace == namespace && p.Name == name && (uid == "" || p.UID == uid) {
			st, ok := s.deps.Status(p.UID)
			if !ok {
				st = p.Status
			}
			return p, st, true
		}
	}
	return nil, corev1.PodStatus{}, false
}
