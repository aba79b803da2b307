// Package component answers the gRPC service Component for a process.
//
// Data in: the process's options and checks. Data out: what ctl components and
// ctl options show. The goroutines are gRPC's.
package component

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"flagship/internal/options"
	"flagship/internal/version"
	componentv1 "flagship/proto/component/v1"
)

// CheckResult is the outcome of one health check.
type CheckResult struct {
	Name string
	Err  error
}

// Server describes one process.
type Server struct {
	componentv1.UnimplementedComponentServer
	Name     string
	Start    time.Time
	Set      *options.Set
	Identity string
	// Leader returns the current leader, nil where there is no election.
	Leader func() string
	// Features are the gates that differ from their defaults.
	Features map[string]bool
	// Checks runs the health checks.
	Checks func(ctx context.Context) []CheckResult
}

// Info names the process.
func (s *Server) Info(context.Context, *componentv1.InfoRequest) (*componentv1.InfoResponse, error) {
	v := version.Get()
	out := &componentv1.InfoResponse{
		Name: s.Name, Version: v.GitVersion, GitCommit: v.GitCommit, GoVersion: runtime.Version(),
		StartTime: timestamppb.New(s.Start), Identity: s.Identity, Features: s.Features,
		Pid: int64(os.Getpid()), ResidentBytes: residentBytes(),
	}
	if s.Leader != nil {
		out.Leader = s.Leader()
	}
	return out, nil
}

// residentBytes reads VmRSS; 0 where it cannot be read.
func residentBytes() int64 {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// Options lists every effective option.
func (s *Server) Options(context.Context, *componentv1.OptionsRequest) (*componentv1.OptionsResponse, error) {
	out := &componentv1.OptionsResponse{}
	for _, o := range s.Set.List() {
		out.Options = append(out.Options, &componentv1.Option{
			Name: o.Name, Value: o.Value, Default: o.Default, Inert: o.Inert,
			Origin: &componentv1.Origin{Kind: kind(o.Origin.Kind), Source: o.Origin.Source, Line: int32(o.Origin.Line)}, //nolint:gosec // a line number of a file of at most 4 MiB
		})
	}
	return out, nil
}

func kind(k options.Kind) componentv1.Origin_Kind {
	switch k {
	case options.File:
		return componentv1.Origin_KIND_FILE
	case options.DropIn:
		return componentv1.Origin_KIND_DROP_IN
	case options.Environment:
		return componentv1.Origin_KIND_ENVIRONMENT
	case options.Flag:
		return componentv1.Origin_KIND_FLAG
	default:
		return componentv1.Origin_KIND_DEFAULT
	}
}

// healthInterval is how often a streamed Health looks for a change.
const healthInterval = 2 * time.Second

// Health streams the checks, once at the start and then on every change.
func (s *Server) Health(_ *componentv1.HealthRequest, stream componentv1.Component_HealthServer) error {
	ctx := stream.Context()
	tick := time.NewTicker(healthInterval)
	defer tick.Stop()
	var last *componentv1.HealthResponse
	for {
		now := &componentv1.HealthResponse{}
		for _, r := range s.Checks(ctx) {
			c := &componentv1.Check{Name: r.Name, Healthy: r.Err == nil}
			if r.Err != nil {
				c.Message = r.Err.Error()
			}
			now.Checks = append(now.Checks, c)
		}
		if last == nil || !proto.Equal(last, now) {
			if err := stream.Send(now); err != nil {
				return err
			}
			last = now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
