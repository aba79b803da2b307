package admission

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"

	"flagship/internal/quota"
)

// Quota counts what a namespace uses against its ResourceQuotas. Usage is written to the quotas' status before the
// request goes on, so that two requests cannot both take the last of something.
type Quota struct {
	operations
	r   *Readers
	now func() time.Time
	// limited are the resources that nobody may use without a quota.
	limited []limitedResource
	turn    [64]chan struct{} // one request at a time for the namespaces of a stripe
	seed    maphash.Seed

	mu     sync.Mutex // guards latest
	latest map[string]*corev1.ResourceQuota
}

const (
	quotaRetries    = 5
	quotaTimeout    = 10 * time.Second
	quotaLatestSize = 1000
)

func newQuota(o operations, r *Readers, now func() time.Time, limited []limitedResource) *Quota {
	q := &Quota{operations: o, r: r, now: now, limited: limited, seed: maphash.MakeSeed(), latest: map[string]*corev1.ResourceQuota{}}
	for i := range q.turn {
		q.turn[i] = make(chan struct{}, 1)
	}
	return q
}

// Validate implements Validator.
func (p *Quota) Validate(ctx context.Context, a *Attributes) error {
	if a.Namespace == "" || a.Kind.Group == "" && a.Kind.Kind == "Namespace" {
		return nil
	}
	u, err := p.evaluator(ctx, a)
	if err != nil || u == nil {
		return err
	}
	quotas, err := p.r.Quotas(ctx, a.Namespace, false)
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("error resolving quota: %w", err))
	}
	if len(quotas) == 0 && len(p.limited) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, quotaTimeout)
	defer cancel()
	turn := p.turn[maphash.String(p.seed, a.Namespace)%uint64(len(p.turn))]
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return apierrors.NewInternalError(fmt.Errorf("resource quota evaluation timed out"))
	}
	return p.charge(ctx, a, u, p.newest(quotas))
}

// evaluator returns how the request counts, or nil if it does not.
func (p *Quota) evaluator(ctx context.Context, a *Attributes) (*quota.Evaluator, error) {
	switch a.Resource.Group + "/" + a.Resource.Resource {
	case "/pods":
		if a.Subresource == "" && a.Operation == Create || a.Subresource == "resize" && a.Operation == Update ||
			a.Subresource == "" && a.Operation == Update && quota.Terminating(a.Object) != quota.Terminating(a.OldObject) {
			return quota.Pods(p.now()), nil
		}
		return nil, nil
	case "/services":
		if a.Subresource == "" {
			return quota.Services(), nil
		}
		return nil, nil
	case "/persistentvolumeclaims":
		if a.Subresource == "" || a.Subresource == "status" && a.Operation == Update {
			return quota.Volumes(), nil
		}
		return nil, nil
	case "resource.k8s.io/resourceclaims":
		if a.Subresource == "" {
			return p.devices(ctx)
		}
		return nil, nil
	case "/events", "events.k8s.io/events", "/bindings", "authorization.k8s.io/localsubjectaccessreviews":
		return nil, nil
	}
	if a.Operation != Create || a.Subresource != "" {
		return nil, nil
	}
	return quota.Objects(a.Resource.Group, a.Resource.Resource), nil
}

func (p *Quota) devices(ctx context.Context) (*quota.Evaluator, error) {
	classes, err := p.r.DeviceClasses(ctx)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("error resolving quota: %w", err))
	}
	return quota.Claims(quota.Devices{
		Classes: classes, Pods: quota.Pods(p.now()),
		Pod: func(namespace, name string) *corev1.Pod {
			pod, err := p.r.Pod(ctx, namespace, name)
			if err != nil {
				return nil
			}
			return pod
		},
		Claims: func(namespace string) ([]*resourcev1.ResourceClaim, error) { return p.r.ResourceClaims(ctx, namespace) },
	}), nil
}

// charge checks the quotas and writes the usage of those that change, again if another server was faster.
func (p *Quota) charge(ctx context.Context, a *Attributes, u *quota.Evaluator, quotas []*corev1.ResourceQuota) error {
	written := map[string]bool{}
	for attempt := 0; ; attempt++ {
		changed, err := plan(a, u, quotas, p.limited)
		if err != nil || a.DryRun {
			return err
		}
		var conflict error
		for _, q := range changed {
			if written[q.Name] {
				continue
			}
			now, err := p.r.UpdateQuotaStatus(ctx, q)
			switch {
			case err == nil:
				written[q.Name] = true
				p.remember(now)
			case apierrors.IsConflict(err) || apierrors.IsNotFound(err):
				conflict = err
			default:
				return err
			}
		}
		if conflict == nil {
			return nil
		}
		if attempt == quotaRetries {
			return conflict
		}
		if quotas, err = p.r.Quotas(ctx, a.Namespace, true); err != nil {
			return apierrors.NewInternalError(fmt.Errorf("error resolving quota: %w", err))
		}
		quotas = slices.DeleteFunc(slices.Clone(quotas), func(q *corev1.ResourceQuota) bool { return written[q.Name] })
	}
}

// remember keeps what was written, until the cache that Quotas reads has caught up.
func (p *Quota) remember(q *corev1.ResourceQuota) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.latest) >= quotaLatestSize {
		clear(p.latest)
	}
	p.latest[q.Namespace+"/"+q.Name] = q
}

func (p *Quota) newest(quotas []*corev1.ResourceQuota) []*corev1.ResourceQuota {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := slices.Clone(quotas)
	for i, q := range out {
		key := q.Namespace + "/" + q.Name
		switch l := p.latest[key]; {
		case l == nil:
		case l.UID == q.UID && revision(l) > revision(q):
			out[i] = l
		default:
			delete(p.latest, key)
		}
	}
	return out
}

func revision(q *corev1.ResourceQuota) uint64 {
	n, _ := strconv.ParseUint(q.ResourceVersion, 10, 64)
	return n
}

// plan decides: it returns the quotas with their new usage, or why the request exceeds one. It changes nothing.
func plan(a *Attributes, u *quota.Evaluator, quotas []*corev1.ResourceQuota, limited []limitedResource) ([]*corev1.ResourceQuota, error) {
	var relevant []*corev1.ResourceQuota
	var covered []corev1.ResourceName
	for _, q := range quotas {
		names := u.Counted(q.Status.Hard)
		if len(names) == 0 || !u.InScope(q, a.Object) {
			continue
		}
		if err := u.Constrain(names, a.Object); err != nil {
			return nil, forbid(a, "failed quota: %s: %w", q.Name, err)
		}
		for _, n := range names {
			if _, ok := q.Status.Used[n]; !ok {
				return nil, forbid(a, "status unknown for quota: %s, resources: %s", q.Name, joinNames(names))
			}
		}
		relevant = append(relevant, q)
		covered = append(covered, names...)
	}
	if len(relevant) == 0 && len(limited) == 0 {
		return nil, nil
	}
	used := u.Of(a.Object)
	var negative []corev1.ResourceName
	for n, v := range used {
		if v.Sign() < 0 {
			negative = append(negative, n)
		}
	}
	if len(negative) > 0 {
		return nil, forbid(a, "quota usage is negative for resource(s): %s", joinNames(negative))
	}
	grown := used
	if a.Operation == Update && existed(a) {
		grown = subtract(used, u.Of(a.OldObject))
	}
	deltas, some := make([]corev1.ResourceList, len(relevant)), len(relevant) == 0 && anything(grown)
	for i, q := range relevant {
		deltas[i] = used
		if a.Operation == Update && existed(a) && u.InScope(q, a.OldObject) {
			deltas[i] = grown
		}
		some = some || anything(deltas[i])
	}
	if !some {
		return nil, nil
	}
	if err := uncovered(a, u, used, limited, covered, quotas); err != nil {
		return nil, err
	}
	var changed []*corev1.ResourceQuota
	for i, q := range relevant {
		next, err := take(a, q, mask(deltas[i], q.Status.Hard))
		if err != nil {
			return nil, err
		}
		if next != nil {
			changed = append(changed, next)
		}
	}
	return changed, nil
}

func anything(l corev1.ResourceList) bool {
	for _, v := range l {
		if !v.IsZero() {
			return true
		}
	}
	return false
}

// existed says whether an update is one, and not a create through the same verb.
func existed(a *Attributes) bool {
	m, err := meta.Accessor(a.OldObject)
	return err == nil && m.GetResourceVersion() != ""
}

// take adds usage to a quota; nil says that nothing changes.
func take(a *Attributes, q *corev1.ResourceQuota, delta corev1.ResourceList) (*corev1.ResourceQuota, error) {
	maps.DeleteFunc(delta, func(_ corev1.ResourceName, v resource.Quantity) bool { return v.IsZero() })
	if len(delta) == 0 {
		return nil, nil
	}
	next := q.DeepCopy()
	var exceeded []corev1.ResourceName
	for n, d := range delta {
		was := next.Status.Used[n]
		total := was.DeepCopy()
		total.Add(d)
		hard := q.Status.Hard[n]
		if a.Subresource != "status" && d.Sign() > 0 && total.Cmp(hard) > 0 {
			exceeded = append(exceeded, n)
		}
		next.Status.Used[n] = total
	}
	if len(exceeded) > 0 {
		return nil, forbid(a, "exceeded quota: %s, requested: %s, used: %s, limited: %s", q.Name,
			listed(delta, exceeded), listed(q.Status.Used, exceeded), listed(q.Status.Hard, exceeded))
	}
	return next, nil
}

func mask(l, hard corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for n, v := range l {
		if _, ok := hard[n]; ok {
			out[n] = v
		}
	}
	return out
}

// subtract leaves what the new usage has more than the old; what shrank is given back by the quota controller.
func subtract(now, before corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for n, v := range now {
		d := v.DeepCopy()
		if b, ok := before[n]; ok {
			d.Sub(b)
		}
		if d.Sign() > 0 {
			out[n] = d
		}
	}
	return out
}

func listed(l corev1.ResourceList, names []corev1.ResourceName) string {
	slices.Sort(names)
	var parts []string
	for _, n := range names {
		v := l[n]
		parts = append(parts, string(n)+"="+v.String())
	}
	return strings.Join(parts, ",")
}

func joinNames(names []corev1.ResourceName) string {
	parts := make([]string, 0, len(names))
	for _, n := range names {
		parts = append(parts, string(n))
	}
	slices.SortFunc(parts, cmp.Compare[string])
	return strings.Join(parts, ",")
}
