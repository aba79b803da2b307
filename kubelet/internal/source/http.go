package source

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"flagship/kubelet/internal/podspec"
)

// HTTPConfig says where manifests are served.
type HTTPConfig struct {
	URL    string
	Header http.Header
	Node   string
	Period time.Duration
}

// HTTP reads static pods from a URL.
type HTTP struct {
	cfg HTTPConfig
	log *zap.Logger
	mux *Mux
}

// NewHTTP returns the HTTP source.
func NewHTTP(cfg HTTPConfig, log *zap.Logger, mux *Mux) *HTTP {
	return &HTTP{cfg: cfg, log: log, mux: mux}
}

// Run reads the URL once per period until ctx ends. A failed read changes nothing.
func (h *HTTP) Run(ctx context.Context) error {
	tick := time.NewTicker(h.cfg.Period)
	defer tick.Stop()
	for {
		if pods, err := h.read(ctx); err != nil {
			h.log.Warn("read static pods", zap.String("url", h.cfg.URL), zap.Error(err))
		} else {
			h.mux.Replace(ctx, podspec.SourceHTTP, pods)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (h *HTTP) read(ctx context.Context) ([]*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.cfg.URL, nil)
	if err != nil {
		return nil, err
	}
	req.Header = h.cfg.Header.Clone()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK || len(data) == 0 {
		return nil, fmt.Errorf("status %s with %d bytes", resp.Status, len(data))
	}
	raw, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, err
	}
	var list struct {
		Kind  string            `json:"kind"`
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	if list.Kind != "PodList" {
		list.Items = []json.RawMessage{raw}
	}
	var out []*corev1.Pod
	for _, item := range list.Items {
		pod, err := Decode(item, h.cfg.Node, podspec.SourceHTTP, h.cfg.URL)
		if err != nil {
			return nil, err
		}
		out = append(out, pod)
	}
	return out, nil
}
