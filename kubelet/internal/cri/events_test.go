package cri

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// silent is a runtime that implements nothing.
type silent struct {
	runtimeapi.UnimplementedRuntimeServiceServer
}

// eventful has an event stream that ends after its events.
type eventful struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	events []*runtimeapi.ContainerEventResponse
}

func (e *eventful) GetContainerEvents(_ *runtimeapi.GetEventsRequest, s grpc.ServerStreamingServer[runtimeapi.ContainerEventResponse]) error {
	for _, ev := range e.events {
		if err := s.Send(ev); err != nil {
			return err
		}
	}
	return nil
}

func serve(t *testing.T, rt runtimeapi.RuntimeServiceServer) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cri.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	runtimeapi.RegisterRuntimeServiceServer(s, rt)
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(s.Stop)
	c, err := New(Config{RuntimeEndpoint: "unix://" + path, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestEvents(t *testing.T) {
	of := func(uid string) *runtimeapi.ContainerEventResponse {
		return &runtimeapi.ContainerEventResponse{PodSandboxStatus: &runtimeapi.PodSandboxStatus{Metadata: &runtimeapi.PodSandboxMetadata{Uid: uid}}}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var got []string
	err := serve(t, &eventful{events: []*runtimeapi.ContainerEventResponse{of("a"), {}, of("b")}}).Events(ctx, func() {}, func(uid string) { got = append(got, uid) })
	if err == nil || errors.Is(err, ErrNoEvents) {
		t.Errorf("a stream that broke: %v", err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, got); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
	err = serve(t, &silent{}).Events(ctx, func() { t.Error("opened") }, func(string) { t.Error("an event") })
	if !errors.Is(err, ErrNoEvents) {
		t.Errorf("a runtime without events: %v", err)
	}
}
