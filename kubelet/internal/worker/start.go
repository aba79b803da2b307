package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"flagship/kubelet/internal/cri"
	"flagship/kubelet/internal/image"
	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/podstate"
	"flagship/kubelet/internal/runconfig"
	"flagship/kubelet/internal/status"
)

// starter starts containers of one pod in one sandbox.
type starter struct {
	w         *worker
	pod       *corev1.Pod
	state     *podstate.Pod
	sandboxID string
	ips       []string
	secrets   []corev1.Secret
	images    map[string]*runtimeapi.ImageSpec // that volumes show, by the volume's name, once they are pulled
	retry     time.Duration                    // the soonest time at which a start that backs off may be tried again
}

// setIPs puts the sandbox's addresses into the pod's status copy, which the environment is made from.
func (s *starter) setIPs(host []string) {
	ips := s.ips
	if s.pod.Spec.HostNetwork {
		ips = host
	}
	s.pod.Status.PodIP, s.pod.Status.PodIPs = "", nil
	for _, ip := range ips {
		s.pod.Status.PodIPs = append(s.pod.Status.PodIPs, corev1.PodIP{IP: ip})
	}
	if len(ips) > 0 {
		s.pod.Status.PodIP = ips[0]
	}
}

// start brings up one container. On failure its reason is kept for the status; the error asks for a retry.
func (s *starter) start(ctx context.Context, c *corev1.Container, target string) error {
	w := s.w
	last := s.state.Latest(c.Name)
	// One that was killed just now is not in the snapshot as ended: its predecessor counts, as upstream counts it.
	if ended := s.state.LatestExited(c.Name); ended != nil {
		delay, until := w.backoff.Check(backoffKey(c), ended.FinishedAt, time.Now())
		if delay > 0 {
			who := s.pod.Name + "_" + s.pod.Namespace + "(" + string(s.pod.UID) + ")"
			w.pool.deps.Events(s.pod, c.Name, corev1.EventTypeWarning, "BackOff", fmt.Sprintf("Back-off restarting failed container %s in pod %s", c.Name, who))
			w.failures[c.Name] = status.Failure{Reason: "CrashLoopBackOff", Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", delay, c.Name, who)}
			s.again(time.Until(until))
			return nil
		}
	}
	f, err := s.attempt(ctx, c, target, last)
	if err == nil {
		delete(w.failures, c.Name)
		return nil
	}
	if ctx.Err() != nil {
		return err
	}
	w.failures[c.Name] = f
	w.pool.deps.Decided(s.pod, "waiting", f.Reason, c.Name+": "+f.Message)
	var ie *image.Error
	if errors.As(err, &ie) && !ie.Retry.IsZero() {
		// The failure itself shows for a moment before the back-off does.
		if ie.Reason == image.ReasonBackOff {
			s.again(time.Until(ie.Retry))
		} else {
			s.again(2 * time.Second)
		}
		return nil
	}
	return err
}

// backoffKey changes with the container's declaration: a changed container does not wait for its predecessor's failures.
func backoffKey(c *corev1.Container) string {
	return fmt.Sprintf("%s/%x", c.Name, podspec.HashDeclaration(c))
}

func (s *starter) again(d time.Duration) {
	d = max(d, 10*time.Millisecond)
	if s.retry == 0 || d < s.retry {
		s.retry = d
	}
}

func (s *starter) attempt(ctx context.Context, c *corev1.Container, target string, last *podstate.Container) (status.Failure, error) {
	d := &s.w.pool.deps
	failed := func(id, reason string, err error) (status.Failure, error) {
		msg := cri.Message(err)
		if ctx.Err() == nil {
			d.Events(s.pod, c.Name, corev1.EventTypeWarning, "Failed", "Error: "+msg)
		}
		return status.Failure{Reason: reason, Message: msg}, fmt.Errorf("start container %s: %s: %w", c.Name, reason, err)
	}
	ref, f, err := s.pull(ctx, c, c.Image, c.ImagePullPolicy)
	if err != nil {
		return f, err
	}
	if f, err := s.pullVolumes(ctx, c); err != nil {
		return f, err
	}
	in := runconfig.ContainerInput{Pod: s.pod, Container: c, ImageRef: ref, PodIPs: s.ips, RestartCount: s.restartCount(c, last), Images: s.images}
	if target != "" {
		t := s.state.Latest(target)
		if t == nil {
			return failed("", "CreateContainerConfigError", fmt.Errorf("unable to find target container %v", target))
		}
		in.TargetID = t.ID
	}
	if in.User, err = s.imageUser(ctx, ref); err != nil {
		return failed("", "CreateContainerConfigError", err)
	}
	cfg, err := d.Builder.Container(ctx, in)
	if err != nil {
		return failed("", "CreateContainerConfigError", err)
	}
	id, err := d.Runtime.CreateContainer(ctx, s.sandboxID, cfg, s.w.sandbox)
	if err != nil {
		return failed("", "CreateContainerError", err)
	}
	d.Events(s.pod, c.Name, corev1.EventTypeNormal, "Created", "Container created")
	if err := d.Runtime.StartContainer(ctx, id); err != nil {
		return failed(id, "RunContainerError", err)
	}
	d.Events(s.pod, c.Name, corev1.EventTypeNormal, "Started", "Container started")
	if _, kind := podspec.Find(s.pod, c.Name); kind != podspec.Ephemeral {
		if err := d.Books.Actuate(s.pod.UID, c.Name, c.Resources); err != nil {
			s.w.log.Warn("note resources", zap.Error(err))
		}
	}
	s.link(c, id, cfg)
	if c.Lifecycle != nil && c.Lifecycle.PostStart != nil {
		if msg, err := s.w.hook(ctx, s.pod, c, id, c.Lifecycle.PostStart); err != nil {
			d.Events(s.pod, c.Name, corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed")
			kerr := s.w.killOne(ctx, s.pod, stop{id: id, name: c.Name, container: c, message: "FailedPostStartHook"})
			return status.Failure{Reason: "PostStartHookError", Message: msg}, errors.Join(err, kerr)
		}
	}
	return status.Failure{}, nil
}

func (s *starter) pull(ctx context.Context, c *corev1.Container, name string, policy corev1.PullPolicy) (string, status.Failure, error) {
	d := &s.w.pool.deps
	ref, err := d.Images.Ensure(ctx, image.Request{Pod: s.pod, Container: c.Name, Image: name, Policy: policy, Secrets: s.secrets, Sandbox: s.w.sandbox})
	if err == nil {
		return ref, status.Failure{}, nil
	}
	var ie *image.Error
	errors.As(err, &ie)
	if ctx.Err() == nil {
		d.Events(s.pod, c.Name, corev1.EventTypeWarning, "Failed", "Error: "+ie.Reason)
	}
	return "", status.Failure{Reason: ie.Reason, Message: ie.Message}, err
}

// pullVolumes pulls the images that the container mounts.
func (s *starter) pullVolumes(ctx context.Context, c *corev1.Container) (status.Failure, error) {
	for _, m := range c.VolumeMounts {
		for _, v := range s.pod.Spec.Volumes {
			if v.Name != m.Name || v.Image == nil || s.images[v.Name] != nil {
				continue
			}
			ref, f, err := s.pull(ctx, c, v.Image.Reference, v.Image.PullPolicy)
			if err != nil {
				return f, err
			}
			if s.images == nil {
				s.images = map[string]*runtimeapi.ImageSpec{}
			}
			s.images[v.Name] = &runtimeapi.ImageSpec{Image: ref, UserSpecifiedImage: v.Image.Reference}
		}
	}
	return status.Failure{}, nil
}

// restartCount follows the newest instance; without one, the log folder tells how often the container ran before.
func (s *starter) restartCount(c *corev1.Container, last *podstate.Container) int {
	if last != nil {
		return last.RestartCount + 1
	}
	entries, err := os.ReadDir(filepath.Join(s.w.pool.deps.Builder.LogDirectory(s.pod), c.Name))
	if err != nil {
		return 0
	}
	count := 0
	for _, e := range entries {
		if n, err := strconv.Atoi(strings.TrimSuffix(e.Name(), ".log")); err == nil && n+1 > count {
			count = n + 1
		}
	}
	return count
}

func (s *starter) imageUser(ctx context.Context, ref string) (runconfig.ImageUser, error) {
	img, err := s.w.pool.deps.Runtime.ImageStatus(ctx, &runtimeapi.ImageSpec{Image: ref})
	if err != nil {
		return runconfig.ImageUser{}, err
	}
	if img == nil {
		return runconfig.ImageUser{}, fmt.Errorf("image %q not found", ref)
	}
	if img.Uid != nil {
		return runconfig.ImageUser{UID: &img.Uid.Value}, nil
	}
	if img.Username == "" {
		root := int64(0)
		return runconfig.ImageUser{UID: &root}, nil
	}
	return runconfig.ImageUser{Name: img.Username}, nil
}

// link makes the /var/log/containers name that log collectors follow.
func (s *starter) link(c *corev1.Container, id string, cfg *runtimeapi.ContainerConfig) {
	dir := s.w.pool.cfg.ContainersDir
	if dir == "" {
		return
	}
	target := filepath.Join(s.w.pool.deps.Builder.LogDirectory(s.pod), cfg.LogPath)
	name := filepath.Join(dir, fmt.Sprintf("%s_%s_%s-%s.log", s.pod.Name, s.pod.Namespace, c.Name, id))
	if err := os.Symlink(target, name); err != nil && !os.IsExist(err) {
		s.w.log.Warn("link container log", zap.Error(err))
	}
}
