package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"flagship/kubelet/internal/cri"
	"flagship/kubelet/internal/plan"
	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/podstate"
	"flagship/kubelet/internal/status"
)

// sync brings a pod that should be running closer to its declaration. terminal says that it has ended on its own.
func (w *worker) sync(ctx context.Context, pod *corev1.Pod) (again time.Duration, terminal bool, err error) {
	d := &w.pool.deps
	state, err := d.Runtime.Pod(ctx, pod.UID)
	if err != nil {
		return retryPeriod / 5, false, err
	}
	if w.first {
		if rejected := w.begin(ctx, pod, state); rejected {
			return 0, true, nil
		}
		w.first = false
	}
	pod = w.grant(pod)
	w.pool.mu.Lock()
	w.waits = w.pending != nil
	w.pool.mu.Unlock()
	s := w.report(pod, state, false)
	if podspec.IsTerminal(s.Phase) {
		return 0, true, nil
	}
	if left, over := w.deadline(pod, s); over {
		return 0, true, nil
	} else if left > 0 {
		defer func() { again = min(again, left) }()
	}
	if !pod.Spec.HostNetwork {
		if err := d.Node.NetworkError(); err != nil {
			msg := fmt.Sprintf("network is not ready: %v", err)
			d.Events(pod, "", corev1.EventTypeWarning, "NetworkNotReady", msg)
			return retryPeriod / 5, false, errors.New(msg)
		}
	}
	if err := w.prepare(ctx, pod); err != nil {
		return retryPeriod / 5, false, err
	}
	d.Probes.Sync(ctx, pod)
	actions := plan.Compute(w.planInput(pod, state))
	if actions.Empty() {
		return w.jittered(), false, nil
	}
	retry, err := w.apply(ctx, pod, state, actions)
	if ctx.Err() != nil {
		return 0, false, ctx.Err()
	}
	if fresh, ferr := d.Runtime.Pod(ctx, pod.UID); ferr == nil {
		if s := w.report(pod, fresh, false); podspec.IsTerminal(s.Phase) {
			return 0, true, nil
		}
		if err == nil && retry == 0 && (actions.ResizePod || len(actions.StartInit)+len(actions.Kill) > 0) {
			return 0, false, nil // the next init container, or what was killed, may be due at once
		}
	}
	switch {
	case retry > 0:
		return retry, false, err
	case err != nil:
		return retryPeriod, false, err
	}
	return w.jittered(), false, nil
}

// begin runs once per worker: admission of a pod that has never run here, and what a restarted kubelet must recall.
func (w *worker) begin(ctx context.Context, pod *corev1.Pod, state *podstate.Pod) (rejected bool) {
	d := &w.pool.deps
	if len(state.Containers) > 0 || len(state.Sandboxes) > 0 {
		w.pool.mu.Lock()
		w.admitted = true
		w.pool.mu.Unlock()
		w.recall(pod, state)
		return false
	}
	granted, _, _ := d.Books.Granted(pod)
	reason, message := w.pool.admit(ctx, w, granted)
	if reason == "" {
		d.Decided(pod, "admitted", "", "")
		return false
	}
	d.Events(pod, "", corev1.EventTypeWarning, reason, message)
	d.Decided(pod, "rejected", reason, message)
	w.pool.mu.Lock()
	w.forced = &status.Failure{Reason: reason, Message: "Pod was rejected: " + message}
	w.pool.mu.Unlock()
	w.rejected = true
	w.report(pod, state, true)
	return true
}

// recall restores what an earlier process knew about a pod that has run here: how often its containers crashed, and, where
// the books are silent, that it has what it declares.
func (w *worker) recall(pod *corev1.Pod, state *podstate.Pod) {
	d := &w.pool.deps
	granted, _, known := d.Books.Granted(pod)
	if !known {
		if err := d.Books.Grant(pod); err != nil {
			w.log.Warn("grant resources", zap.Error(err))
		}
	}
	have := d.Books.Actuated(pod.UID).ContainerResources
	for i := range state.Containers {
		c := &state.Containers[i]
		spec, kind := podspec.Find(granted, c.Name)
		if spec == nil {
			continue
		}
		if c.State == podstate.Exited {
			w.backoff.Seed(backoffKey(spec), c.RestartCount, c.FinishedAt)
		}
		if _, ok := have[c.Name]; !ok && c.State == podstate.Running && kind != podspec.Ephemeral {
			if err := d.Books.Actuate(pod.UID, c.Name, spec.Resources); err != nil {
				w.log.Warn("note resources", zap.Error(err))
			}
		}
	}
}

// deadline fails a pod whose activeDeadlineSeconds has passed, and says how long is left otherwise (0 for no deadline).
func (w *worker) deadline(pod *corev1.Pod, s corev1.PodStatus) (left time.Duration, over bool) {
	if pod.Spec.ActiveDeadlineSeconds == nil || s.StartTime == nil {
		return 0, false
	}
	left = time.Until(s.StartTime.Add(time.Duration(*pod.Spec.ActiveDeadlineSeconds) * time.Second))
	if left > 0 {
		return left, false
	}
	msg := "Pod was active on the node longer than the specified deadline"
	w.pool.mu.Lock()
	w.forced = &status.Failure{Reason: "DeadlineExceeded", Message: msg}
	w.pool.mu.Unlock()
	w.pool.deps.Events(pod, "", corev1.EventTypeNormal, "DeadlineExceeded", msg)
	return 0, true
}

// prepare makes the cgroup, folders and volumes of the pod.
func (w *worker) prepare(ctx context.Context, pod *corev1.Pod) error {
	d := &w.pool.deps
	if err := d.Cgroups.Ensure(pod); err != nil {
		d.Events(pod, "", corev1.EventTypeWarning, "FailedCreatePodContainer", fmt.Sprintf("unable to ensure pod container exists: %v", err))
		return err
	}
	if pod.Spec.Resources != nil && d.Books.Actuated(pod.UID).PodLevelResources == nil {
		if err := d.Books.ActuatePod(pod.UID, pod.Spec.Resources); err != nil {
			return err
		}
	}
	if err := d.Volumes.MakePodDirs(pod); err != nil {
		d.Events(pod, "", corev1.EventTypeWarning, "Failed", fmt.Sprintf("error making pod data directories: %v", err))
		return err
	}
	w.mounts = true
	if err := d.Volumes.Mount(ctx, w.withStatus(pod)); err != nil && ctx.Err() == nil {
		for _, line := range strings.Split(errors.Unwrap(err).Error(), "\n") {
			d.Events(pod, "", corev1.EventTypeWarning, "FailedMount", line)
			d.Decided(pod, "waiting", "FailedMount", line)
		}
		return err
	}
	return ctx.Err()
}

// withStatus is the pod with its newest status, which downward API values and container environments are read from.
func (w *worker) withStatus(pod *corev1.Pod) *corev1.Pod {
	c := *pod
	if s, ok := w.pool.deps.Statuses.Get(pod.UID); ok {
		c.Status = s
	}
	return &c
}

// apply carries out the plan. retry is when a start that is backing off may be tried again.
func (w *worker) apply(ctx context.Context, pod *corev1.Pod, state *podstate.Pod, a plan.Actions) (retry time.Duration, err error) {
	d := &w.pool.deps
	if a.KillPod {
		if a.CreateSandbox && a.SandboxID != "" {
			d.Events(pod, "", corev1.EventTypeNormal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
		}
		if err := w.killAll(ctx, pod, state, nil); err != nil {
			return 0, err
		}
		if a.PurgeInit {
			if err := w.purgeInit(ctx, pod, state); err != nil {
				return 0, err
			}
		}
	}
	if !a.KillPod {
		if err := w.killSome(ctx, pod, state, a.Kill); err != nil {
			return 0, err
		}
	}
	if len(a.Reset) > 0 {
		return 10 * time.Millisecond, w.reset(ctx, pod, a.Reset)
	}
	if err := w.resize(ctx, pod, a); err != nil {
		return 0, err
	}
	ips := state.IPs
	if a.CreateSandbox {
		if a.SandboxID, ips, err = w.createSandbox(ctx, pod, a.Attempt); err != nil {
			return 0, err
		}
	} else if a.KillPod || len(a.StartEphemeral)+len(a.StartInit)+len(a.Start) == 0 {
		return 0, nil
	}
	if w.sandbox == nil {
		if w.sandbox, err = d.Builder.Sandbox(pod, a.Attempt); err != nil {
			return 0, fmt.Errorf("generate sandbox config: %w", err)
		}
	}
	secrets, missing := d.Node.PullSecrets(ctx, pod)
	if len(missing) > 0 {
		d.Events(pod, "", corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret",
			fmt.Sprintf("Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", strings.Join(missing, ", ")))
	}
	st := starter{w: w, pod: w.withStatus(pod), state: state, sandboxID: a.SandboxID, ips: ips, secrets: secrets}
	st.setIPs(d.Node.HostIPs())
	var errs []error
	for _, i := range a.StartEphemeral {
		errs = append(errs, st.start(ctx, podspec.EphemeralContainer(&pod.Spec.EphemeralContainers[i]), pod.Spec.EphemeralContainers[i].TargetContainerName))
	}
	for _, i := range a.StartInit {
		c := &pod.Spec.InitContainers[i]
		if err := st.start(ctx, c, ""); err != nil {
			errs = append(errs, err)
			if !podspec.IsRestartableInit(c) {
				return st.retry, errors.Join(errs...)
			}
		}
	}
	for _, i := range a.Start {
		errs = append(errs, st.start(ctx, &pod.Spec.Containers[i], ""))
	}
	return st.retry, errors.Join(errs...)
}

// reset removes the containers, those that run killed first; their logs stay until the pod goes.
func (w *worker) reset(ctx context.Context, pod *corev1.Pod, list []plan.Reset) error {
	none := int64(0)
	for _, r := range list {
		if r.Kill {
			c, _ := podspec.Find(pod, r.Name)
			if err := w.killOne(ctx, pod, stop{id: r.ID, name: r.Name, container: c, message: "killing", grace: &none}); err != nil {
				return err
			}
		}
		if err := w.pool.deps.Runtime.RemoveContainer(ctx, r.ID); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) purgeInit(ctx context.Context, pod *corev1.Pod, state *podstate.Pod) error {
	for i := range state.Containers {
		c := &state.Containers[i]
		if _, kind := podspec.Find(pod, c.Name); kind != podspec.Init {
			continue
		}
		if k, _ := podspec.Find(pod, c.Name); k == nil {
			continue
		}
		if err := w.pool.deps.Runtime.RemoveContainer(ctx, c.ID); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) createSandbox(ctx context.Context, pod *corev1.Pod, attempt uint32) (id string, ips []string, err error) {
	d := &w.pool.deps
	fail := func(err error) (string, []string, error) {
		if ctx.Err() == nil {
			msg := fmt.Sprintf("Failed to create pod sandbox: %s", cri.Message(err))
			d.Events(pod, "", corev1.EventTypeWarning, "FailedCreatePodSandBox", msg)
			d.Decided(pod, "waiting", "FailedCreatePodSandBox", msg)
		}
		return "", nil, fmt.Errorf("create sandbox: %w", err)
	}
	cfg, err := d.Builder.Sandbox(pod, attempt)
	if err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(cfg.LogDirectory, 0o755); err != nil {
		return fail(err)
	}
	handler, err := d.Node.RuntimeHandler(ctx, pod.Spec.RuntimeClassName)
	if err != nil {
		return fail(err)
	}
	if id, err = d.Runtime.RunSandbox(ctx, cfg, handler); err != nil {
		return fail(err)
	}
	w.sandbox = cfg
	state, err := d.Runtime.Pod(ctx, pod.UID)
	if err != nil {
		d.Events(pod, "", corev1.EventTypeWarning, "FailedPodSandBoxStatus", fmt.Sprintf("Unable to get pod sandbox status: %v", err))
		return "", nil, err
	}
	w.report(pod, state, false)
	return id, state.IPs, nil
}
