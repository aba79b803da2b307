package resource

import (
	"context"
	"fmt"
	"sort"
	"time"

	"go.uber.org/zap"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"flagship/kubelet/internal/cri"
)

// imagePeriod is how often image use is looked at, as upstream's.
const imagePeriod = 5 * time.Minute

// Images is the part of CRI that image collection needs.
type Images interface {
	Images(ctx context.Context) ([]*runtimeapi.Image, error)
	RemoveImage(ctx context.Context, ref string) error
	Containers(ctx context.Context, uid string) ([]cri.ContainerInfo, error)
}

// ImageConfig bounds image collection.
type ImageConfig struct {
	High, Low      int64 // percent of the image filesystem
	MinAge, MaxAge time.Duration
	FS             func(ctx context.Context) string
	Mounted        func() []string                         // names of images that pods mount as volumes
	Done           func(present []string, since time.Time) // is told the images that are there after a collection
}

// ImageCollector removes images that no container uses. Calls must not overlap.
type ImageCollector struct {
	cfg     ImageConfig
	log     *zap.Logger
	runtime Images
	first   map[string]time.Time // when an image was first seen
	used    map[string]time.Time // when it was last used
}

// NewImageCollector returns an ImageCollector.
func NewImageCollector(cfg ImageConfig, log *zap.Logger, rt Images) *ImageCollector {
	return &ImageCollector{cfg: cfg, log: log, runtime: rt, first: map[string]time.Time{}, used: map[string]time.Time{}}
}

// Run collects every five minutes until ctx ends; failed tells about failures.
func (c *ImageCollector) Run(ctx context.Context, failed func(error)) error {
	tick := time.NewTicker(imagePeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		begin := time.Now()
		if err := c.collect(ctx, begin); err != nil && ctx.Err() == nil {
			c.log.Warn("collect images", zap.Error(err))
			failed(err)
		}
		if list, err := c.runtime.Images(ctx); err == nil {
			present := make([]string, len(list))
			for i := range list {
				present[i] = list[i].Id
			}
			c.cfg.Done(present, begin)
		}
	}
}

func (c *ImageCollector) collect(ctx context.Context, now time.Time) error {
	free, err := c.unused(ctx, now)
	if err != nil {
		return err
	}
	if c.cfg.MaxAge > 0 {
		for _, i := range free {
			if now.Sub(c.used[i.Id]) > c.cfg.MaxAge && now.Sub(c.first[i.Id]) > c.cfg.MaxAge {
				c.remove(ctx, i)
			}
		}
	}
	path := c.cfg.FS(ctx)
	if path == "" {
		return nil
	}
	fs, err := StatFS(path)
	if err != nil || fs.Capacity == 0 {
		return err
	}
	usage := 100 - fs.Available*100/fs.Capacity
	if usage < c.cfg.High {
		return nil
	}
	want := fs.Capacity*(100-c.cfg.Low)/100 - fs.Available
	freed := int64(0)
	for _, i := range free {
		if freed >= want {
			return nil
		}
		if now.Sub(c.first[i.Id]) < c.cfg.MinAge {
			continue
		}
		if c.remove(ctx, i) {
			freed += int64(i.Size)
		}
	}
	if freed < want {
		return fmt.Errorf("failed to garbage collect required amount of images. Attempted to free %d bytes, but only found %d bytes eligible to free", want, freed)
	}
	return nil
}

// All removes every unused image and reports whether there was one.
func (c *ImageCollector) All(ctx context.Context) bool {
	free, err := c.unused(ctx, time.Now())
	if err != nil {
		return false
	}
	done := false
	for _, i := range free {
		done = c.remove(ctx, i) || done
	}
	return done
}

// unused lists the images that no container uses, the longest unused first.
func (c *ImageCollector) unused(ctx context.Context, now time.Time) ([]*runtimeapi.Image, error) {
	list, err := c.runtime.Images(ctx)
	if err != nil {
		return nil, err
	}
	containers, err := c.runtime.Containers(ctx, "")
	if err != nil {
		return nil, err
	}
	inUse := map[string]bool{}
	for _, k := range containers {
		inUse[k.Image], inUse[k.ImageRef], inUse[k.ImageID] = true, true, true
	}
	for _, name := range c.cfg.Mounted() {
		inUse[name] = true
	}
	have := map[string]bool{}
	var free []*runtimeapi.Image
	for _, i := range list {
		have[i.Id] = true
		if c.first[i.Id].IsZero() {
			c.first[i.Id] = now
		}
		busy := inUse[i.Id] || i.Pinned
		for _, n := range append(append([]string{}, i.RepoTags...), i.RepoDigests...) {
			busy = busy || inUse[n]
		}
		if busy {
			c.used[i.Id] = now
			continue
		}
		free = append(free, i)
	}
	for id := range c.first {
		if !have[id] {
			delete(c.first, id)
			delete(c.used, id)
		}
	}
	sort.SliceStable(free, func(a, b int) bool { return c.used[free[a].Id].Before(c.used[free[b].Id]) })
	return free, nil
}

func (c *ImageCollector) remove(ctx context.Context, i *runtimeapi.Image) bool {
	if err := c.runtime.RemoveImage(ctx, i.Id); err != nil {
		c.log.Warn("remove image", zap.String("image", i.Id), zap.Error(err))
		return false
	}
	c.log.Info("image removed", zap.String("image", i.Id), zap.Uint64("bytes", i.Size))
	return true
}
