package resource

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// systemdTimeout bounds one call to systemd.
const systemdTimeout = 30 * time.Second

// Systemd makes slices over the system bus. It is safe for concurrent use.
type Systemd struct {
	mu   sync.Mutex // guards conn
	conn *systemd.Conn
}

func (s *Systemd) connect(ctx context.Context) (*systemd.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil && s.conn.Connected() {
		return s.conn, nil
	}
	conn, err := systemd.NewSystemdConnectionContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to systemd: %w", err)
	}
	s.conn = conn
	return conn, nil
}

// StartSlice starts a slice, or changes the limits of one that runs.
func (s *Systemd) StartSlice(name string, l Limits, v2 bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), systemdTimeout)
	defer cancel()
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	prop := func(name string, v any) systemd.Property {
		return systemd.Property{Name: name, Value: dbus.MakeVariant(v)}
	}
	var limits []systemd.Property
	for _, p := range sliceProperties(l, v2) {
		limits = append(limits, prop(p.name, p.value))
	}
	props := append([]systemd.Property{systemd.PropDescription("kubelet " + name), prop("DefaultDependencies", false), systemd.PropWants(parentSlice(name))}, limits...)
	done := make(chan string, 1)
	if _, err := conn.StartTransientUnitContext(ctx, name, "replace", props, done); err != nil {
		if strings.Contains(err.Error(), "already exists") || strings.Contains(err.Error(), "was already loaded") {
			return conn.SetUnitPropertiesContext(ctx, name, true, limits...)
		}
		return fmt.Errorf("start %s: %w", name, err)
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("start %s: %w", name, ctx.Err())
	}
}

// StopSlice stops a slice; one that is gone is no error.
func (s *Systemd) StopSlice(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), systemdTimeout)
	defer cancel()
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	if _, err := conn.StopUnitContext(ctx, name, "replace", nil); err != nil && !strings.Contains(err.Error(), "not loaded") {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	return nil
}

func parentSlice(name string) string {
	base := strings.TrimSuffix(name, ".slice")
	if i := strings.LastIndex(base, "-"); i > 0 {
		return base[:i] + ".slice"
	}
	return "-.slice"
}
