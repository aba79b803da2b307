package worker

import (
	"context"
	"os"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"

	"flagship/kubelet/internal/cri"
	"flagship/kubelet/internal/podstate"
)

// Housekeeping periods, as upstream's.
const (
	housekeeping = 2 * time.Second
	collection   = time.Minute
	minAge       = 0 // of a dead container before it is collected
)

// Run removes what belongs to no pod until ctx ends, and then waits for the workers.
func (p *Pool) Run(ctx context.Context) error {
	tick := time.NewTicker(housekeeping)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			p.wg.Wait()
			return nil
		case <-tick.C:
		}
		if !p.deps.Ready() {
			continue
		}
		p.orphans(ctx)
		if time.Since(last) > collection {
			last = time.Now()
			p.collect(ctx)
		}
	}
}

// orphans stops pods that no source declares any more and removes folders and cgroups of pods that are gone.
func (p *Pool) orphans(ctx context.Context) {
	sandboxes, err := p.deps.Runtime.Sandboxes(ctx, "")
	if err != nil {
		p.deps.Log.Debug("housekeeping", zap.Error(err))
		return
	}
	containers, err := p.deps.Runtime.Containers(ctx, "")
	if err != nil {
		p.deps.Log.Debug("housekeeping", zap.Error(err))
		return
	}
	present := map[types.UID]bool{}
	for _, c := range containers {
		uid := types.UID(c.PodUID)
		if c.State == podstate.Running || c.State == podstate.Unknown {
			present[uid] = true
		}
		if !p.known(uid) && c.State == podstate.Running {
			p.deps.Log.Info("stop container of a pod that is gone", zap.String("containerID", c.ID), zap.String("pod", c.PodNamespace+"/"+c.PodName))
			if err := p.deps.Runtime.StopContainer(ctx, c.ID, minGrace*time.Second); err != nil {
				p.deps.Log.Warn("stop orphan container", zap.Error(err))
			}
		}
	}
	for _, s := range sandboxes {
		if p.known(types.UID(s.UID)) {
			continue
		}
		if present[types.UID(s.UID)] && s.Ready {
			continue // its containers were stopped just now: next round
		}
		p.removePod(ctx, types.UID(s.UID))
	}
	dirs, err := p.deps.Volumes.OnDisk()
	if err != nil {
		p.deps.Log.Warn("housekeeping", zap.Error(err))
	}
	for _, uid := range dirs {
		if p.running(uid) || present[uid] {
			continue
		}
		if !p.known(uid) {
			if err := p.deps.Volumes.Remove(uid); err != nil {
				p.deps.Log.Warn("remove orphaned pod folder", zap.String("podUID", string(uid)), zap.Error(err))
			}
		}
	}
	for _, uid := range p.deps.Books.Pods() {
		if p.known(uid) || present[uid] {
			continue
		}
		if err := p.deps.Books.Forget(uid); err != nil {
			p.deps.Log.Warn("forget resources of a pod that is gone", zap.Error(err))
		}
	}
	for _, uid := range p.deps.Cgroups.Pods() {
		if p.running(uid) || present[uid] {
			continue
		}
		if err := p.deps.Cgroups.Remove(uid); err != nil {
			p.deps.Log.Debug("remove orphaned cgroup", zap.String("podUID", string(uid)), zap.Error(err))
		}
	}
}

// removePod removes every container and sandbox of a pod that is gone.
func (p *Pool) removePod(ctx context.Context, uid types.UID) {
	containers, err := p.deps.Runtime.Containers(ctx, string(uid))
	if err != nil {
		return
	}
	for _, c := range containers {
		if err := p.deps.Runtime.RemoveContainer(ctx, c.ID); err != nil {
			p.deps.Log.Warn("remove container", zap.Error(err))
			return
		}
	}
	sandboxes, err := p.deps.Runtime.Sandboxes(ctx, string(uid))
	if err != nil {
		return
	}
	for _, s := range sandboxes {
		if err := p.deps.Runtime.StopSandbox(ctx, s.ID); err != nil {
			p.deps.Log.Warn("stop sandbox", zap.Error(err))
			return
		}
		if err := p.deps.Runtime.RemoveSandbox(ctx, s.ID); err != nil {
			p.deps.Log.Warn("remove sandbox", zap.Error(err))
			return
		}
	}
	p.cleanLogs(containers, sandboxes)
}

// collect keeps one dead instance of each container and the newest sandbox of each pod, and removes the others.
func (p *Pool) collect(ctx context.Context) {
	containers, err := p.deps.Runtime.Containers(ctx, "")
	if err != nil {
		return
	}
	type key struct{ uid, name string }
	dead := map[key]int{}
	used := map[string]bool{}
	for _, c := range containers { // newest first
		k := key{c.PodUID, c.Name}
		if c.State == podstate.Exited {
			dead[k]++
			if dead[k] > 1 && time.Since(c.CreatedAt) > minAge {
				if err := p.deps.Runtime.RemoveContainer(ctx, c.ID); err != nil {
					p.deps.Log.Warn("collect container", zap.Error(err))
				} else {
					p.unlink(c)
					continue
				}
			}
		}
		used[c.SandboxID] = true
	}
	sandboxes, err := p.deps.Runtime.Sandboxes(ctx, "")
	if err != nil {
		return
	}
	seen := map[string]bool{}
	for _, s := range sandboxes { // newest first
		newest := !seen[s.UID]
		seen[s.UID] = true
		if newest || s.Ready || used[s.ID] {
			continue
		}
		if err := p.deps.Runtime.RemoveSandbox(ctx, s.ID); err != nil {
			p.deps.Log.Warn("collect sandbox", zap.Error(err))
		}
	}
	p.deadLinks()
}

func (p *Pool) unlink(c cri.ContainerInfo) {
	if p.cfg.ContainersDir != "" {
		_ = os.Remove(p.cfg.ContainersDir + "/" + c.PodName + "_" + c.PodNamespace + "_" + c.Name + "-" + c.ID + ".log")
	}
}

func (p *Pool) cleanLogs(containers []cri.ContainerInfo, sandboxes []cri.SandboxInfo) {
	for _, c := range containers {
		p.unlink(c)
	}
	for _, s := range sandboxes {
		if err := os.RemoveAll(p.deps.Builder.LogFolder(s.Namespace, s.Name, s.UID)); err != nil {
			p.deps.Log.Warn("remove logs of a pod that is gone", zap.Error(err))
		}
	}
}

// deadLinks removes links in /var/log/containers whose log is gone.
func (p *Pool) deadLinks() {
	if p.cfg.ContainersDir == "" {
		return
	}
	entries, err := os.ReadDir(p.cfg.ContainersDir)
	if err != nil {
		return
	}
	for _, e := range entries {
		path := p.cfg.ContainersDir + "/" + e.Name()
		if _, err := os.Stat(path); os.IsNotExist(err) {
			_ = os.Remove(path)
		}
	}
}
