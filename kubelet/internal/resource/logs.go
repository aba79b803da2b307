package resource

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"go.uber.org/zap"

	"flagship/kubelet/internal/cri"
	"flagship/kubelet/internal/podstate"
)

// LogRuntime is the part of CRI that log rotation needs.
type LogRuntime interface {
	Containers(ctx context.Context, uid string) ([]cri.ContainerInfo, error)
	Container(ctx context.Context, id string) (*podstate.Container, error)
	ReopenLog(ctx context.Context, id string) error
}

// LogConfig bounds container logs.
type LogConfig struct {
	MaxSize  int64 // bytes of one file; 0 or less for no rotation
	MaxFiles int   // per container, the live one included
	Period   time.Duration
}

// Logs rotates container logs.
type Logs struct {
	cfg     LogConfig
	log     *zap.Logger
	runtime LogRuntime
}

// NewLogs returns Logs.
func NewLogs(cfg LogConfig, log *zap.Logger, rt LogRuntime) *Logs {
	return &Logs{cfg: cfg, log: log, runtime: rt}
}

// Run looks at every log once per period until ctx ends.
func (l *Logs) Run(ctx context.Context) error {
	tick := time.NewTicker(l.cfg.Period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if l.cfg.MaxSize <= 0 {
			continue
		}
		list, err := l.runtime.Containers(ctx, "")
		if err != nil {
			continue
		}
		for _, c := range list {
			if c.State != podstate.Running {
				continue
			}
			if err := l.rotate(ctx, c.ID); err != nil && ctx.Err() == nil {
				l.log.Warn("rotate container log", zap.String("containerID", c.ID), zap.Error(err))
			}
		}
	}
}

func (l *Logs) rotate(ctx context.Context, id string) error {
	c, err := l.runtime.Container(ctx, id)
	if err != nil || c.LogPath == "" {
		return err
	}
	info, err := os.Stat(c.LogPath)
	if os.IsNotExist(err) {
		return l.runtime.ReopenLog(ctx, id) // a rotation that was cut short
	}
	if err != nil || info.Size() < l.cfg.MaxSize {
		return err
	}
	old, err := filepath.Glob(c.LogPath + ".*")
	if err != nil {
		return err
	}
	sort.Strings(old)
	var keep []string
	for _, p := range old {
		if strings.HasSuffix(p, ".tmp") {
			_ = os.Remove(p)
			continue
		}
		keep = append(keep, p)
	}
	for len(keep) > max(l.cfg.MaxFiles-2, 0) {
		if err := os.Remove(keep[0]); err != nil {
			return err
		}
		keep = keep[1:]
	}
	for _, p := range keep {
		if !strings.HasSuffix(p, ".gz") {
			if err := compress(p); err != nil {
				return err
			}
		}
	}
	rotated := fmt.Sprintf("%s.%s", c.LogPath, time.Now().Format("20060102-150405"))
	if err := os.Rename(c.LogPath, rotated); err != nil {
		return err
	}
	if err := l.runtime.ReopenLog(ctx, id); err != nil {
		return fmt.Errorf("reopen: %w", firstError(err, os.Rename(rotated, c.LogPath)))
	}
	return nil
}

func firstError(a, b error) error {
	if b != nil {
		return fmt.Errorf("%w; and back: %w", a, b)
	}
	return a
}

func compress(path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	tmp := path + ".tmp"
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	if cerr := z.Close(); err == nil {
		err = cerr
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path+".gz"); err != nil {
		return err
	}
	return os.Remove(path)
}
