package engine

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"

	"go.uber.org/zap"

	"flagship/internal/decision"
	"flagship/scheduler/internal/cycle"
	"flagship/scheduler/internal/plugin"
	"flagship/scheduler/internal/preempt"
	"flagship/scheduler/internal/queue"
	"flagship/scheduler/internal/snapshot"
)

// cycle tries one pod.
func (e *Engine) cycle(ctx context.Context, it *queue.Item) {
	pr, began := e.deps.Profiles[it.Pod.Spec.SchedulerName], e.deps.Now()
	if pr == nil || it.Pod.DeletionTimestamp != nil {
		e.deps.Recorder.Eventf(it.Pod.Pod, v1.EventTypeWarning, "FailedScheduling", "skip schedule deleting pod: %v/%v", it.Pod.Namespace, it.Pod.Name)
		e.queue.Remove(it.Pod.UID)
		return
	}
	in := cycle.Input{Pod: it.Pod, Start: e.start, Seed: e.deps.Seed(), Nominated: e.nominatedTo}
	if len(e.nominated) == 0 {
		in.Nominated = nil
	}
	d := pr.Decide(e.cluster, in)
	if d.Nodes > 0 {
		e.start = (e.start + d.Evaluated) % d.Nodes
	}
	e.deps.Metrics.Algorithm.Observe(e.deps.Now().Sub(began).Seconds())
	if d.Node < 0 {
		e.reject(ctx, pr, in, it, d, began)
		return
	}
	e.assume(ctx, pr, it, d, began)
}

func (e *Engine) nominatedTo(node string) []*snapshot.Pod { return e.nominated[node] }

// assume counts the pod on its node before the API knows, and binds it.
func (e *Engine) assume(ctx context.Context, pr *Profile, it *queue.Item, d *cycle.Decision, began time.Time) {
	node := e.cluster.Name(d.Node)
	plan, reasons, err := plugin.PlanVolumes(e.cluster, it.Pod, d.Node)
	if err != nil || len(reasons) > 0 {
		e.failed(ctx, pr, it, fmt.Errorf("plan volumes: %v %w", reasons, err), began)
		return
	}
	e.denominate(it.Pod)
	e.cluster.Place(it.Pod, node)
	for _, b := range plan.Bind {
		e.cluster.Volumes.Assumed[b.PV.Name] = b.Claim.Namespace + "/" + b.Claim.Name
	}
	a := &assumed{item: it, node: node, plan: plan, at: began}
	e.assumed[it.Pod.UID] = a
	e.recordScheduled(it, node, d)
	e.async(ctx, "binding", func(ctx context.Context) {
		err := e.deps.Binder.Bind(ctx, it.Pod.Pod, node, plan)
		e.Post(func() { e.bound(ctx, pr, a, err) })
	})
}

// bound is the end of a binding.
func (e *Engine) bound(ctx context.Context, pr *Profile, a *assumed, err error) {
	p, now := a.item.Pod, e.deps.Now()
	if a.bound = err == nil; !a.bound || a.settled {
		delete(e.assumed, p.UID)
	}
	for _, b := range a.plan.Bind {
		delete(e.cluster.Volumes.Assumed, b.PV.Name)
	}
	if err == nil {
		e.queue.Remove(p.UID)
		m := e.deps.Metrics
		m.attempt("scheduled", pr.Name, now.Sub(a.at))
		m.Attempts.Observe(float64(a.item.Attempts))
		m.SLI.WithLabelValues(strconv.Itoa(min(a.item.Attempts, 16))).Observe(now.Sub(a.item.First).Seconds())
		e.deps.Recorder.Eventf(p.Pod, v1.EventTypeNormal, "Scheduled", "Successfully assigned %v/%v to %v", p.Namespace, p.Name, a.node)
		e.deps.Log.Debug("pod bound", zap.String("pod", p.Key()), zap.String("node", a.node), zap.Duration("took", now.Sub(a.at)))
		return
	}
	if placed := e.cluster.RemovePod(p.UID); placed != nil && placed.Spec.NodeName != "" {
		// The API knows the pod as bound after all; what the informer told stands.
		e.cluster.AddPod(placed)
		e.queue.Remove(p.UID)
		return
	}
	e.wake(snapshot.Event{Kind: snapshot.KindAssignedPod, Action: snapshot.Delete, Pod: p, Node: -1})
	if e.queue.Get(p.UID) != a.item {
		return
	}
	e.failed(ctx, pr, a.item, err, a.at)
}

// failed is an attempt that an error ended.
func (e *Engine) failed(ctx context.Context, pr *Profile, it *queue.Item, err error, began time.Time) {
	now := e.deps.Now()
	e.deps.Metrics.attempt("error", pr.Name, now.Sub(began))
	e.deps.Log.Error("pod not scheduled, trying again", zap.String("pod", it.Pod.Key()), zap.Error(err))
	e.deps.Decisions.Record(decision.Entry{
		Actor: pr.Name, Time: now, Kind: "Pod", Namespace: it.Pod.Namespace, Name: it.Pod.Name, UID: it.Pod.UID,
		Generation: it.Pod.Generation, Verdict: "error", Reasons: []decision.Reason{{Code: "SchedulerError", Message: err.Error()}},
	})
	e.tell(ctx, it.Pod, v1.PodReasonSchedulerError, err.Error(), nil)
	e.queue.Fail(it, now)
}

// reject is an attempt that found no node: preemption may make room, the pod waits.
func (e *Engine) reject(ctx context.Context, pr *Profile, in cycle.Input, it *queue.Item, d *cycle.Decision, began time.Time) {
	if d.Erred() {
		e.failed(ctx, pr, it, fmt.Errorf("%s: %s", d.RejectedBy, d.Rejected.Reasons[0]), began)
		return
	}
	now := e.deps.Now()
	nominated := ""
	if pr.Preempt && d.Nodes > 0 {
		plan := preempt.Decide(e.cluster, pr.Profile, in, d, e.budgets(), pr.Limits)
		d.After = plan.Message
		nominated = plan.Node
		if plan.Node != "" {
			e.preempt(ctx, pr, it, plan)
		}
	}
	e.deps.Metrics.attempt("unschedulable", pr.Name, now.Sub(began))
	msg := d.Message()
	e.recordRejected(pr, it, d, msg)
	plugins := d.Plugins()
	e.deps.Metrics.unschedulable(pr.Name, plugins)
	if nominated != "" {
		e.nominate(it.Pod, nominated)
		e.tell(ctx, it.Pod, v1.PodReasonUnschedulable, msg, &nominated)
	} else if it.Pod.Status.NominatedNodeName != "" && !e.terminatingOn(it.Pod) {
		e.denominate(it.Pod)
		e.tell(ctx, it.Pod, v1.PodReasonUnschedulable, msg, &nominated)
	} else {
		e.tell(ctx, it.Pod, v1.PodReasonUnschedulable, msg, nil)
	}
	e.queue.Reject(it, plugins, now)
}

// terminatingOn says whether the pod's nominated node still has pods that are going for its sake.
func (e *Engine) terminatingOn(p *snapshot.Pod) bool {
	node, ok := e.cluster.Index(p.Status.NominatedNodeName)
	return ok && slices.ContainsFunc(e.cluster.Pods(node), func(o *snapshot.Pod) bool {
		return o.DeletionTimestamp != nil && o.Priority < p.Priority
	})
}

func (e *Engine) budgets() []*policyv1.PodDisruptionBudget {
	out := make([]*policyv1.PodDisruptionBudget, 0, len(e.pdbs))
	for _, b := range e.pdbs {
		out = append(out, b)
	}
	return out
}

const noteLimit = 1024

// tell writes the event and the condition of a pod that was not scheduled.
func (e *Engine) tell(ctx context.Context, p *snapshot.Pod, reason, msg string, nominated *string) {
	note := msg
	if len(note) > noteLimit {
		note = note[:noteLimit-4] + " ..."
	}
	e.deps.Recorder.Eventf(p.Pod, v1.EventTypeWarning, "FailedScheduling", "%s", note)
	now := e.deps.Now()
	e.async(ctx, "condition", func(ctx context.Context) {
		if err := e.deps.Binder.Condition(ctx, p.Pod, reason, msg, nominated, now); err != nil && ctx.Err() == nil {
			e.deps.Log.Warn("pod's condition not written", zap.String("pod", p.Key()), zap.Error(err))
		}
	})
}

// preempt sends the victims away.
func (e *Engine) preempt(ctx context.Context, pr *Profile, it *queue.Item, plan preempt.Plan) {
	e.deps.Metrics.PreemptionAttempts.Inc()
	e.deps.Metrics.PreemptionVictims.Observe(float64(len(plan.Victims)))
	e.deps.Log.Info("pod preempts", zap.String("pod", it.Pod.Key()), zap.String("node", plan.Node), zap.Int("victims", len(plan.Victims)))
	now := e.deps.Now()
	for _, lower := range plan.Lower {
		e.denominate(lower)
		e.async(ctx, "preemption", func(ctx context.Context) {
			if err := e.deps.Binder.Nominate(ctx, lower.Pod, ""); err != nil && ctx.Err() == nil {
				e.deps.Log.Warn("nomination not cleared", zap.String("pod", lower.Key()), zap.Error(err))
			}
		})
	}
	for _, victim := range plan.Victims {
		if a := e.assumed[victim.UID]; victim.DeletionTimestamp != nil && a == nil {
			continue
		}
		e.async(ctx, "preemption", func(ctx context.Context) {
			if err := e.deps.Binder.Evict(ctx, victim, it.Pod.Spec.SchedulerName, now); err != nil {
				if ctx.Err() == nil {
					e.deps.Log.Warn("victim not evicted", zap.String("victim", victim.Key()), zap.Error(err))
					e.Post(func() { e.again(it) })
				}
				return
			}
			e.deps.Recorder.Eventf(victim.Pod, v1.EventTypeNormal, "Preempted", "Preempted by pod %v on node %v", it.Pod.UID, plan.Node)
		})
	}
}

// again wakes a pod whose preemption failed.
func (e *Engine) again(it *queue.Item) {
	if e.queue.Get(it.Pod.UID) != it {
		return
	}
	e.queue.Wake("PreemptionFailed", func(_ string, p *snapshot.Pod) bool { return p.UID == it.Pod.UID }, e.deps.Now())
}

func (e *Engine) nominate(p *snapshot.Pod, node string) {
	e.denominate(p)
	if node != "" {
		e.nominated[node] = append(e.nominated[node], p)
	}
}

func (e *Engine) denominate(p *snapshot.Pod) {
	for node, list := range e.nominated {
		list = slices.DeleteFunc(list, func(o *snapshot.Pod) bool { return o.UID == p.UID })
		if len(list) == 0 {
			delete(e.nominated, node)
			continue
		}
		e.nominated[node] = list
	}
}

const scoresKept = 10

func (e *Engine) recordScheduled(it *queue.Item, node string, d *cycle.Decision) {
	reasons := []decision.Reason{{
		Subject: "node/" + node, Code: "Selected",
		Message: fmt.Sprintf("%d of %d nodes evaluated, %d feasible", d.Evaluated, d.Nodes, d.Feasible),
	}}
	scores := slices.Clone(d.Scores)
	slices.SortStableFunc(scores, func(a, b cycle.Score) int { return int(b.Total - a.Total) })
	for _, s := range scores[:min(len(scores), scoresKept)] {
		reasons = append(reasons, decision.Reason{Subject: "node/" + e.cluster.Name(s.Node), Code: "Score", Message: strconv.FormatInt(s.Total, 10)})
	}
	e.record(it, "scheduled", append(reasons, e.refusals(d)...))
}

func (e *Engine) recordRejected(pr *Profile, it *queue.Item, d *cycle.Decision, msg string) {
	e.deps.Log.Info("pod not scheduled", zap.String("pod", it.Pod.Key()), zap.String("reason", msg))
	var reasons []decision.Reason
	if d.Rejected != nil {
		for _, r := range d.Rejected.Reasons {
			reasons = append(reasons, decision.Reason{Subject: "pod", Code: d.RejectedBy, Message: r})
		}
	}
	if d.Nodes == 0 {
		reasons = append(reasons, decision.Reason{Subject: "pod", Code: "NoNodes", Message: msg})
	}
	reasons = append(reasons, e.refusals(d)...)
	if d.After != "" {
		reasons = append(reasons, decision.Reason{Subject: "pod", Code: "DefaultPreemption", Message: d.After})
	}
	e.record(it, "unschedulable", reasons)
}

// refusalsNamed is how many nodes are named for one reason; the rest is a count.
const refusalsNamed = 20

// refusals folds what nodes said: each plugin and reason names some nodes and counts the others.
func (e *Engine) refusals(d *cycle.Decision) []decision.Reason {
	type key struct{ plugin, reason string }
	count := map[key]int{}
	var order []key
	var out []decision.Reason
	for _, r := range d.Refusals {
		for _, reason := range r.Reasons {
			k := key{r.Plugin, reason}
			if count[k]++; count[k] == 1 {
				order = append(order, k)
			}
			if count[k] <= refusalsNamed {
				out = append(out, decision.Reason{Subject: "node/" + e.cluster.Name(r.Node), Code: r.Plugin, Message: reason})
			}
		}
	}
	for _, k := range order {
		if more := count[k] - refusalsNamed; more > 0 {
			out = append(out, decision.Reason{Subject: "nodes", Code: k.plugin, Message: k.reason, Count: more})
		}
	}
	return out
}

func (e *Engine) record(it *queue.Item, verdict string, reasons []decision.Reason) {
	e.deps.Decisions.Record(decision.Entry{
		Actor: it.Pod.Spec.SchedulerName, Time: e.deps.Now(), Kind: "Pod", Namespace: it.Pod.Namespace, Name: it.Pod.Name,
		UID: it.Pod.UID, Generation: it.Pod.Generation, Verdict: verdict, Reasons: reasons,
	})
}
