package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// Config is the secure port.
type Config struct {
	Address        net.IP
	Port           int
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	MinVersion     uint16
	CipherSuites   []uint16
	// Curves are those of the key exchange, empty for Go's; HTTP1 serves no HTTP/2.
	Curves []tls.CurveID
	HTTP1  bool
	// MaxStreams bounds the streams of an HTTP/2 connection.
	MaxStreams int
	// Delay is how long to serve on, not ready, before the shutdown.
	Delay time.Duration
	// Finish bounds how long requests in flight may take then.
	Finish time.Duration
	// Drain knows what is in flight.
	Drain *Drain
}

// Phases are the steps of a shutdown.
type Phases struct {
	// Stopping is closed at its begin: the server is not ready any more.
	Stopping chan struct{}
	// Draining is closed after the delay: watches end, and nothing new is waited for.
	Draining chan struct{}
}

// NewPhases are those of a server that has not begun to stop.
func NewPhases() Phases { return Phases{make(chan struct{}), make(chan struct{})} }

// Server serves a handler, and gRPC beside it.
type Server struct {
	cfg     Config
	log     *zap.Logger
	handler http.Handler
	phases  Phases
}

// New returns a server. The handler has the filters around it.
func New(cfg Config, handler http.Handler, phases Phases, log *zap.Logger) *Server {
	return &Server{cfg: cfg, log: log, handler: handler, phases: phases}
}

// ErrStopping is why a server that shuts down is not ready.
var ErrStopping = errors.New("process is shutting down")

// Ready is the check of /readyz: it fails from the begin of the shutdown on.
func (s *Server) Ready(context.Context) error {
	select {
	case <-s.phases.Stopping:
		return ErrStopping
	default:
		return nil
	}
}

// IsGRPC says whether a request is a gRPC call.
func IsGRPC(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// maxHeaderBytes bounds a request's headers, net/http's default.
const maxHeaderBytes = 1 << 20

// Run serves until ctx ends. Then it stops being ready and serves on for the delay, ends the watches, and finishes what is in flight.
func (s *Server) Run(ctx context.Context) error {
	srv := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: 32 * time.Second,
		IdleTimeout:       90 * time.Second,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: min(max(s.cfg.MaxStreams, 1), 1<<16), MaxReadFrameSize: 16 << 10,
			SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second,
		},
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       zap.NewStdLog(s.log.Named("http").WithOptions(zap.IncreaseLevel(zap.ErrorLevel))),
		TLSConfig: &tls.Config{
			MinVersion: s.cfg.MinVersion, CipherSuites: s.cfg.CipherSuites, GetCertificate: s.cfg.GetCertificate,
			// A certificate is asked for, and judged by the authenticators.
			ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2", "http/1.1"},
		},
	}
	srv.TLSConfig.CurvePreferences = s.cfg.Curves
	if s.cfg.HTTP1 {
		srv.TLSConfig.NextProtos = []string{"http/1.1"}
		srv.Protocols = new(http.Protocols)
		srv.Protocols.SetHTTP1(true)
	}
	address := net.JoinHostPort(s.cfg.Address.String(), strconv.Itoa(s.cfg.Port))
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen on the secure port: %w", err)
	}
	s.log.Info("serving securely", zap.String("address", address))
	done := make(chan error, 1)
	go func() { done <- srv.ServeTLS(l, "", "") }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	close(s.phases.Stopping)
	s.log.Info("shutting down", zap.Duration("delay", s.cfg.Delay))
	wait := time.NewTimer(s.cfg.Delay)
	defer wait.Stop()
	select {
	case <-wait.C:
	case err := <-done:
		return err
	}
	close(s.phases.Draining)
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Finish)
	defer cancel()
	if s.cfg.Drain.refuse {
		// New requests are answered meanwhile: their clients are told to come later.
		s.cfg.Drain.empty(stop)
	}
	err = srv.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	_ = <-done // http.ErrServerClosed
	return err
}
