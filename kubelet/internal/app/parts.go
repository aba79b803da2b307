package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"

	"flagship/internal/kube"
	"flagship/internal/process"
	"flagship/kubelet/internal/source"
)

type runner interface {
	Run(ctx context.Context) error
}

// parts lists what runs, in the order of the start.
func (k *kubelet) parts(srv runner) []process.Part {
	part := func(name string, run func(context.Context) error) process.Part {
		return process.Part{Name: name, Run: run}
	}
	out := []process.Part{
		part("healthz", k.healthz),
		part("runtime", k.health.Run),
		part("status", k.statuses.Run),
		part("probes", k.probes.Run),
		part("workers", k.pool.Run),
		part("observe", k.relist.Run),
		part("eviction", k.evictor.Run),
		part("images", k.collectImages),
		part("logs", k.rotateLogs),
		process.Trim(k.log),
	}
	if k.client != nil {
		out = append(out, part("objects", k.api.Run), part("services", k.services.Run), part("node", k.runMember), part("lease", k.member.RunLease), part("mirrors", k.syncMirrors))
		pods := kube.NewInformer[corev1.Pod, corev1.PodList](k.client, corev1.SchemeGroupVersion.WithResource("pods"), kube.InformerOptions{
			FieldSelector: fields.OneTermEqualSelector("spec.nodeName", k.name).String(),
		})
		out = append(out, part("pods", source.NewAPI(pods, k.mux, k).Run))
		out = append(out, part("certificates", k.rotateCertificates))
	}
	if k.cfg.StaticPodPath != "" {
		out = append(out, part("files", source.NewFile(source.FileConfig{Path: k.cfg.StaticPodPath, Node: k.name, Period: k.cfg.FileCheckFrequency.Duration}, k.log, k.mux).Run))
	}
	if k.cfg.StaticPodURL != "" {
		out = append(out, part("url", source.NewHTTP(source.HTTPConfig{URL: k.cfg.StaticPodURL, Header: k.cfg.StaticPodURLHeader, Node: k.name, Period: k.cfg.HTTPCheckFrequency.Duration}, k.log, k.mux).Run))
	}
	if *k.cfg.EnableServer {
		out = append(out, part("server", srv.Run))
	}
	return out
}

// runMember keeps the Node object and says that the kubelet has started.
func (k *kubelet) runMember(ctx context.Context) error {
	k.nodeEvent(corev1.EventTypeNormal, "Starting", "Starting kubelet.")
	return k.member.Run(ctx)
}

// syncMirrors keeps mirror pods until ctx ends.
func (k *kubelet) syncMirrors(ctx context.Context) error {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	last := time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.mirrors.Wake():
		case <-tick.C:
			if time.Since(last) < 20*time.Second && k.mux.Ready() && k.api.NodeUID() != "" && !last.IsZero() {
				continue
			}
		}
		// Before every source has spoken, a mirror without its static pod proves nothing.
		if k.mux.Ready() && k.api.NodeUID() != "" {
			k.mirrors.Sync(ctx)
			last = time.Now()
		}
	}
}

// Mirror tells about a mirror pod at the API server.
func (k *kubelet) Mirror(pod *corev1.Pod, gone bool) {
	if static := k.mirrors.Observe(pod, gone); static != nil && !gone {
		if pod.Status.Phase == "" || pod.Status.StartTime == nil {
			k.statuses.Touch(static.UID)
		}
		k.statuses.Observe(static.UID, pod)
	}
}

// Observe tells about a pod at the API server.
func (k *kubelet) Observe(pod *corev1.Pod) { k.statuses.Observe(pod.UID, pod) }

// healthz serves the plain health port until ctx ends.
func (k *kubelet) healthz(ctx context.Context) error {
	if *k.cfg.HealthzPort == 0 {
		<-ctx.Done()
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := k.live(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, "ok")
	})
	return k.serve(ctx, net.JoinHostPort(k.cfg.HealthzBindAddress, fmt.Sprint(*k.cfg.HealthzPort)), mux)
}

// live is the process's own health: its loops run. A runtime that is down makes the node NotReady, not the process ill.
func (k *kubelet) live() error { return nil }

// serve runs a plain HTTP server until ctx ends.
func (k *kubelet) serve(ctx context.Context, addr string, h http.Handler) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(ln); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// removed cleans up after a pod that is gone from its source and from the node.
func (k *kubelet) removed(pod *corev1.Pod) {
	k.log.Info("pod removed", zap.String("pod", pod.Namespace+"/"+pod.Name), zap.String("podUID", string(pod.UID)))
	if k.api != nil {
		k.api.Drop(pod.UID)
	}
	k.decided(pod, "removed", "", "")
}
