package app

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	kresource "k8s.io/apimachinery/pkg/api/resource"

	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/resource"
)

// imageFS is where the runtime keeps images, "" while it cannot say.
func (k *kubelet) imageFS(ctx context.Context) string {
	r, err := k.runtime.ImageFilesystems(ctx)
	if err != nil || len(r.GetImageFilesystems()) == 0 {
		return ""
	}
	return r.GetImageFilesystems()[0].GetFsId().GetMountpoint()
}

func (k *kubelet) imageCollector() *resource.ImageCollector {
	return resource.NewImageCollector(resource.ImageConfig{
		High: int64(*k.cfg.ImageGCHighThresholdPercent), Low: int64(*k.cfg.ImageGCLowThresholdPercent),
		MinAge: k.cfg.ImageMinimumGCAge.Duration, MaxAge: k.cfg.ImageMaximumGCAge.Duration, FS: k.imageFS, Done: k.records.Prune,
		Mounted: k.mountedImages,
	}, k.log, k.runtime)
}

// mountedImages names the images that pods mount as volumes.
func (k *kubelet) mountedImages() []string {
	var out []string
	for _, p := range k.pool.Active() {
		for _, v := range p.Spec.Volumes {
			if v.Image != nil {
				out = append(out, podspec.WithDefaultTag(v.Image.Reference))
			}
		}
	}
	return out
}

// collectImages removes unused images until ctx ends.
func (k *kubelet) collectImages(ctx context.Context) error {
	return k.imageCollector().Run(ctx, func(err error) { k.nodeEvent(corev1.EventTypeWarning, "ImageGCFailed", err.Error()) })
}

// rotateLogs rotates container logs until ctx ends.
func (k *kubelet) rotateLogs(ctx context.Context) error {
	size, err := kresource.ParseQuantity(k.cfg.ContainerLogMaxSize)
	if err != nil {
		return fmt.Errorf("containerLogMaxSize: %w", err)
	}
	return resource.NewLogs(resource.LogConfig{
		MaxSize: size.Value(), MaxFiles: int(*k.cfg.ContainerLogMaxFiles), Period: k.cfg.ContainerLogMonitorInterval.Duration,
	}, k.log, k.runtime).Run(ctx)
}

func (k *kubelet) newEvictor() (*resource.Evictor, error) {
	var list []resource.Threshold
	for s, v := range k.cfg.EvictionHard {
		if v == "0" || v == "0%" {
			continue
		}
		list = append(list, resource.Threshold{Signal: resource.Signal(s), Value: v})
	}
	for s, v := range k.cfg.EvictionSoft {
		grace, err := time.ParseDuration(k.cfg.EvictionSoftGracePeriod[s])
		if err != nil {
			return nil, fmt.Errorf("evictionSoftGracePeriod: grace period must be specified for the soft eviction threshold %s: %w", s, err)
		}
		list = append(list, resource.Threshold{Signal: resource.Signal(s), Value: v, Grace: grace})
	}
	if _, err := resource.Met(list, map[resource.Signal]resource.Observation{}); err != nil {
		return nil, err
	}
	collector := k.imageCollector()
	return resource.NewEvictor(resource.EvictConfig{
		Thresholds: list, Transition: k.cfg.EvictionPressureTransitionPeriod.Duration, MaxGrace: int64(k.cfg.EvictionMaxPodGracePeriod),
		NodeFS: k.cfg.RootDir, ImageFS: k.imageFS,
	}, resource.EvictDeps{
		Log: k.log, Pods: k.pool.Active, Evict: k.pool.Evict, Events: k.event, Cgroup: k.cgroups.Path, V2: resource.IsV2(resource.Root),
		PodsDir: filepath.Join(k.cfg.RootDir, "pods"), Reclaim: collector.All,
		Changed: func() {
			if k.member != nil {
				k.member.Poke()
			}
		},
	}), nil
}
