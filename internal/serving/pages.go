package serving

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	apiversion "k8s.io/apimachinery/pkg/version"

	"flagship/internal/options"
	"flagship/internal/version"
)

// Pages are the endpoints that every component serves about itself.
type Pages struct {
	Component string
	Registry  *prometheus.Registry
	Options   *options.Set
	// Config is what /configz shows, by the name upstream gives it; nil or
	// empty shows an empty object.
	Config map[string]any
	Start  time.Time
	// Version is what /version answers, nil for that of the build.
	Version *apiversion.Info
	// Profiling serves /debug/pprof.
	Profiling bool
}

// zWarning heads /flagz and /statusz, as in KEP-4828 and KEP-4827.
const zWarning = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n\n"

// Register serves /metrics, /version, /configz, /flagz, /statusz and
// /debug/pprof.
func (p Pages) Register(mux interface {
	Handle(pattern string, h http.Handler)
},
) {
	mux.Handle("/metrics", promhttp.HandlerFor(p.Registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, EnableOpenMetrics: true}))
	mux.Handle("/version", jsonPage(func() any { return p.version() }))
	mux.Handle("/configz", jsonPage(func() any {
		if p.Config == nil {
			return map[string]any{}
		}
		return p.Config
	}))
	mux.Handle("/flagz", textPage(p.flagz))
	mux.Handle("/statusz", textPage(p.statusz))
	if p.Profiling {
		profiles(mux)
	}
}

func profiles(mux interface {
	Handle(pattern string, h http.Handler)
},
) {
	mux.Handle("/debug/pprof/", http.HandlerFunc(pprof.Index))
	mux.Handle("/debug/pprof/profile", http.HandlerFunc(pprof.Profile))
	mux.Handle("/debug/pprof/symbol", http.HandlerFunc(pprof.Symbol))
	mux.Handle("/debug/pprof/trace", http.HandlerFunc(pprof.Trace))
	mux.Handle("/debug/pprof/cmdline", http.HandlerFunc(pprof.Cmdline))
}

// DebugSocket serves the profiles at a socket whose file only its owner may reach, until ctx ends.
func DebugSocket(ctx context.Context, path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the socket of a run before: %w", err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("listen on the debug socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	mux := http.NewServeMux()
	profiles(mux)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	err = srv.Close()
	_ = <-done
	return err
}

func (p Pages) version() apiversion.Info {
	if p.Version != nil {
		return *p.Version
	}
	return version.Get()
}

func jsonPage(value func() any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		data, err := json.MarshalIndent(value(), "", "  ")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(data)
	})
}

func textPage(text func() string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write([]byte(text()))
	})
}

func (p Pages) flagz() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s flagz\n%s", p.Component, zWarning)
	for _, o := range p.Options.List() {
		if name, ok := strings.CutPrefix(o.Name, "--"); ok {
			fmt.Fprintf(&b, "%s=%s\n", name, o.Value)
		}
	}
	return b.String()
}

func (p Pages) statusz() string {
	v := p.version()
	up := time.Since(p.Start).Truncate(time.Second)
	return fmt.Sprintf("\n%s statusz\n%sStarted: %s\nUp: %s\nGo version: %s\nBinary version: %s\nEmulation version: %s.%s\nPaths: /configz /debug/pprof /flagz /healthz /livez /metrics /metrics/slis /readyz /statusz /version\n",
		p.Component, zWarning, p.Start.UTC().Format(time.UnixDate), fmt.Sprintf("%d hr %02d min %02d sec", int(up.Hours()), int(up.Minutes())%60, int(up.Seconds())%60),
		v.GoVersion, v.GitVersion, v.EmulationMajor, v.EmulationMinor)
}
