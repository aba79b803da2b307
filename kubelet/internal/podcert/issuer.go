package podcert

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"flagship/kubelet/internal/podspec"
)

// Bounds of the wait after a failure, which doubles each time.
const (
	leastPause = 100 * time.Millisecond
	mostPause  = time.Minute
)

// Key names a source: the index among the sources of a projected volume of a pod.
type Key struct {
	Pod    types.UID
	Volume string
	Source int
}

// API is what an Issuer asks of the API server.
type API interface {
	Create(ctx context.Context, req *certificatesv1.PodCertificateRequest) (*certificatesv1.PodCertificateRequest, error)
	AccountUID(ctx context.Context, namespace, name string) (types.UID, error)
}

// Deps is what an Issuer acts through.
type Deps struct {
	Log *zap.Logger
	API API
	// Requests holds the node's requests, by namespace and name; the Issuer runs it.
	Requests cache.SharedIndexInformer
	Node     string
	// NodeUID is that of the registered Node, "" before.
	NodeUID func() types.UID
	// Events tells about a pod.
	Events func(pod *corev1.Pod, container, eventType, reason, message string)
	// Issued is told a pod that has something new to show.
	Issued func(uid types.UID)
	// Jitter is a random duration below most.
	Jitter func(most time.Duration) time.Duration
}

// Issuer keeps the certificates of the node's pods. It is safe for concurrent use.
type Issuer struct {
	deps   Deps
	needed chan struct{} // closed with the first source
	once   sync.Once
	poked  chan struct{} // of one place: something is due sooner

	mu      sync.Mutex // guards entries and what they hold
	entries map[Key]*entry
}

type entry struct {
	pod    *corev1.Pod
	source *corev1.PodCertificateProjection
	state  state
	due    time.Time // zero for never
	pause  time.Duration
	again  bool // something happened while it was looked at
}

// New returns an Issuer.
func New(deps Deps) *Issuer {
	return &Issuer{deps: deps, needed: make(chan struct{}), poked: make(chan struct{}, 1), entries: map[Key]*entry{}}
}

// Track begins to get certificates for a pod, or takes in its change. Static pods get none: the API server does not know
// them. Pods that have ended need none any more.
func (i *Issuer) Track(pod *corev1.Pod) {
	list := sources(pod)
	if len(list) == 0 || podspec.IsStatic(pod) {
		return
	}
	if podspec.IsTerminal(pod.Status.Phase) {
		i.Forget(pod.UID)
		return
	}
	i.mu.Lock()
	for key, source := range list {
		if e := i.entries[key]; e != nil {
			e.pod = pod
			continue
		}
		i.entries[key] = &entry{pod: pod, source: source, due: time.Now()}
	}
	i.mu.Unlock()
	i.once.Do(func() { close(i.needed) })
	i.poke()
}

// Forget ends what is done for a pod, and drops its keys.
func (i *Issuer) Forget(uid types.UID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for key := range i.entries {
		if key.Pod == uid {
			delete(i.entries, key)
		}
	}
}

// Credentials is the private key and the chain, both PEM, that a source shows; the error says why it shows none.
func (i *Issuer) Credentials(pod *corev1.Pod, volume string, source int) (key, chain []byte, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	e := i.entries[Key{pod.UID, volume, source}]
	if e == nil {
		return nil, nil, errPending
	}
	return e.state.credentials()
}

// Count is how many sources a signer has in a state.
type Count struct{ Signer, State string }

// Counts counts the sources.
func (i *Issuer) Counts(now time.Time) map[Count]int {
	i.mu.Lock()
	defer i.mu.Unlock()
	out := map[Count]int{}
	for _, e := range i.entries {
		out[Count{e.source.SignerName, e.state.label(now)}]++
	}
	return out
}

// Run follows the requests and makes those that are due until ctx ends.
func (i *Issuer) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-i.needed:
	}
	seen := func(obj any) {
		if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = gone.Obj
		}
		if r, ok := obj.(*certificatesv1.PodCertificateRequest); ok {
			i.changed(r)
		}
	}
	reg, err := i.deps.Requests.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: seen, UpdateFunc: func(_, obj any) { seen(obj) }, DeleteFunc: seen})
	if err != nil {
		return fmt.Errorf("watch pod certificate requests: %w", err)
	}
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { i.deps.Requests.RunWithContext(ctx) })
	if !cache.WaitForCacheSync(ctx.Done(), reg.HasSynced) {
		return nil
	}
	for {
		key, wait := i.next(time.Now())
		if wait == 0 {
			i.look(ctx, key)
			if ctx.Err() != nil {
				return nil
			}
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-i.poked:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// idle is the wait where nothing is due.
const idle = time.Hour

// next is the source that is due first, and how long it is until then.
func (i *Issuer) next(now time.Time) (first Key, wait time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	wait = idle
	for key, e := range i.entries {
		if d := e.due.Sub(now); !e.due.IsZero() && d < wait {
			first, wait = key, d
		}
	}
	return first, max(wait, 0)
}

func (i *Issuer) poke() {
	select {
	case i.poked <- struct{}{}:
	default:
	}
}

// changed makes the sources of a request's pod be looked at.
func (i *Issuer) changed(r *certificatesv1.PodCertificateRequest) {
	i.mu.Lock()
	for key, e := range i.entries {
		if key.Pod == r.Spec.PodUID {
			e.due, e.again = time.Now(), true
		}
	}
	i.mu.Unlock()
	i.poke()
}

// look does what a source needs now.
func (i *Issuer) look(ctx context.Context, key Key) {
	i.mu.Lock()
	e := i.entries[key]
	if e == nil {
		i.mu.Unlock()
		return
	}
	e.again = false
	pod, was := e.pod, e.state
	i.mu.Unlock()

	now := time.Now()
	next, do, err := plan(was, i.request(pod.Namespace, was.request), now, i.deps.Jitter(spread))
	if do.ask {
		var name string
		var private []byte
		if name, private, err = i.ask(ctx, pod, e.source); err == nil {
			next = next.asked(name, private, now.Add(abandonAfter+i.deps.Jitter(spread)))
			do.due = now // its first look tells when the next is due
		}
	}
	log := i.deps.Log.With(zap.String("pod", pod.Namespace+"/"+pod.Name), zap.String("volume", key.Volume), zap.Int("source", key.Source))
	if err != nil && ctx.Err() == nil {
		log.Warn("get pod certificate", zap.Error(err))
	}
	i.mu.Lock()
	if i.entries[key] != e {
		i.mu.Unlock()
		return // the pod went meanwhile
	}
	e.state, e.due, e.pause = next, do.due, e.pause*2
	if err != nil {
		e.pause = min(max(e.pause, leastPause), mostPause)
		e.due = now.Add(e.pause)
	} else {
		e.pause = 0
	}
	if e.again {
		e.due = now
	}
	i.mu.Unlock()
	for _, ev := range do.events {
		i.deps.Events(pod, "", corev1.EventTypeWarning, ev.reason, ev.message)
	}
	if do.issued {
		log.Info("pod certificate issued", zap.String("request", was.request), zap.Time("refreshAt", next.refreshAt), zap.Time("notAfter", next.expiresAt))
		i.deps.Issued(pod.UID)
	}
}

// request is a request as the cache has it, nil for none.
func (i *Issuer) request(namespace, name string) *certificatesv1.PodCertificateRequest {
	if name == "" {
		return nil
	}
	obj, ok, err := i.deps.Requests.GetStore().GetByKey(namespace + "/" + name)
	if err != nil || !ok {
		return nil
	}
	r, _ := obj.(*certificatesv1.PodCertificateRequest)
	return r
}

// ask makes a key and a request for it.
func (i *Issuer) ask(ctx context.Context, pod *corev1.Pod, p *corev1.PodCertificateProjection) (name string, private []byte, err error) {
	node := i.deps.NodeUID()
	if node == "" {
		return "", nil, errors.New("the node is not registered yet")
	}
	account, err := i.deps.API.AccountUID(ctx, pod.Namespace, pod.Spec.ServiceAccountName)
	if err != nil {
		return "", nil, fmt.Errorf("get service account %s: %w", pod.Spec.ServiceAccountName, err)
	}
	private, stub, err := newKey(p.KeyType)
	if err != nil {
		return "", nil, err
	}
	made, err := i.deps.API.Create(ctx, &certificatesv1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, GenerateName: "req-",
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}},
		},
		Spec: certificatesv1.PodCertificateRequestSpec{
			SignerName: p.SignerName, PodName: pod.Name, PodUID: pod.UID, ServiceAccountName: pod.Spec.ServiceAccountName, ServiceAccountUID: account,
			NodeName: types.NodeName(i.deps.Node), NodeUID: node, MaxExpirationSeconds: p.MaxExpirationSeconds,
			StubPKCS10Request: stub, UnverifiedUserAnnotations: p.UserAnnotations,
		},
	})
	if err != nil {
		return "", nil, fmt.Errorf("create PodCertificateRequest: %w", err)
	}
	return made.Name, private, nil
}
