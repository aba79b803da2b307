package image

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"

	"flagship/kubelet/internal/cri"
	"flagship/kubelet/internal/podspec"
)

// Reasons that a container status shows, upstream's.
const (
	ReasonInspect     = "ImageInspectError"
	ReasonPull        = "ErrImagePull"
	ReasonBackOff     = "ImagePullBackOff"
	ReasonNeverPull   = "ErrImageNeverPull"
	ReasonInvalidName = "InvalidImageName"
	ReasonUnavailable = "RegistryUnavailable"
	ReasonSignature   = "SignatureValidationFailed"
)

// Error is why an image is not there. Retry is when the next attempt is allowed, zero for any time.
type Error struct {
	Reason, Message string
	Retry           time.Time
}

func (e *Error) Error() string { return e.Message }

// Runtime is the part of CRI that images need.
type Runtime interface {
	ImageStatus(ctx context.Context, spec *runtimeapi.ImageSpec) (*runtimeapi.Image, error)
	PullImage(ctx context.Context, spec *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, sandbox *runtimeapi.PodSandboxConfig) (string, error)
}

// Events takes what the puller did, for the pod's event list.
type Events func(pod *corev1.Pod, container, eventType, reason, message string)

// Config bounds pulling.
type Config struct {
	Parallel     int     // pulls at once; 0 means no bound, 1 one after the other
	QPS          float64 // pulls started per second; 0 means no bound
	Burst        int
	BackoffStart time.Duration // 10 s upstream
	BackoffMax   time.Duration // 5 min upstream
	NodeAuth     *Keyring      // credentials of the node itself
	Records      *Records      // nil where credentials of present images are not verified
}

// Puller pulls images. It is safe for concurrent use.
type Puller struct {
	cfg     Config
	log     *zap.Logger
	runtime Runtime
	events  Events
	slots   chan struct{}
	limit   *rate.Limiter

	mu      sync.Mutex // guards backoff
	backoff map[string]backoffEntry
}

type backoffEntry struct {
	delay time.Duration
	last  time.Time
	err   string
}

// New returns a Puller.
func New(cfg Config, log *zap.Logger, rt Runtime, events Events) *Puller {
	p := &Puller{cfg: cfg, log: log, runtime: rt, events: events, backoff: map[string]backoffEntry{}, limit: rate.NewLimiter(rate.Inf, 0)}
	if cfg.Parallel > 0 {
		p.slots = make(chan struct{}, cfg.Parallel)
	}
	if cfg.QPS > 0 {
		p.limit = rate.NewLimiter(rate.Limit(cfg.QPS), cfg.Burst)
	}
	return p
}

// Request is one image that a container needs.
type Request struct {
	Pod       *corev1.Pod
	Container string
	Image     string
	Policy    corev1.PullPolicy
	Secrets   []corev1.Secret
	Sandbox   *runtimeapi.PodSandboxConfig
}

var imageName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.\-_]*(:[0-9]+)?(/[a-z0-9]+([._\-]+[a-z0-9]+)*)*(:[\w][\w.\-]{0,127})?(@[A-Za-z][A-Za-z0-9]*([\-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?$`)

// Ensure makes the image present and returns its reference. The error is an *Error.
func (p *Puller) Ensure(ctx context.Context, r Request) (string, error) {
	event := func(kind, reason, format string, args ...any) {
		p.events(r.Pod, r.Container, kind, reason, fmt.Sprintf(format, args...))
	}
	if !imageName.MatchString(r.Image) {
		msg := fmt.Sprintf("Failed to apply default image tag %q: couldn't parse image name %q: invalid reference format", r.Image, r.Image)
		event(corev1.EventTypeWarning, "InspectFailed", "%s", msg)
		return "", &Error{Reason: ReasonInvalidName, Message: msg}
	}
	spec := &runtimeapi.ImageSpec{Image: podspec.WithDefaultTag(r.Image), Annotations: r.Pod.Annotations}
	if r.Policy != corev1.PullAlways {
		img, err := p.runtime.ImageStatus(ctx, spec)
		if err != nil {
			msg := fmt.Sprintf("Failed to inspect image %q: %s", r.Image, cri.Message(err))
			event(corev1.EventTypeWarning, "InspectFailed", "%s", msg)
			return "", &Error{Reason: ReasonInspect, Message: msg}
		}
		if img != nil && !p.mustPull(r, img.Id) {
			event(corev1.EventTypeNormal, "Pulled", "Container image %q already present on machine and can be accessed by the pod", r.Image)
			return img.Id, nil
		}
		if r.Policy == corev1.PullNever {
			msg := fmt.Sprintf("Container image %q is not present with pull policy of Never", r.Image)
			event(corev1.EventTypeWarning, "ErrImageNeverPull", "%s", msg)
			return "", &Error{Reason: ReasonNeverPull, Message: msg}
		}
	}
	return p.pull(ctx, r, spec, event)
}

// credentials are the secrets of the pod and then the node's own that fit the image.
func (p *Puller) credentials(r Request) []Credential {
	ring := NewKeyring(r.Secrets)
	if p.cfg.NodeAuth != nil {
		ring = ring.With(p.cfg.NodeAuth)
	}
	return ring.Lookup(r.Image)
}

// mustPull says whether the pod has to show the registry its credentials although the image is there.
func (p *Puller) mustPull(r Request, ref string) bool {
	if p.cfg.Records == nil {
		return false
	}
	var secrets []kubeletv1beta1.ImagePullSecret
	for _, c := range p.credentials(r) {
		if c.Secret != nil {
			secrets = append(secrets, *c.Secret)
		}
	}
	return p.cfg.Records.MustPull(r.Image, ref, secrets, time.Now())
}

func (p *Puller) pull(ctx context.Context, r Request, spec *runtimeapi.ImageSpec, event func(kind, reason, format string, args ...any)) (string, error) {
	key := string(r.Pod.UID) + "_" + r.Image
	if entry, until := p.waiting(key, time.Now()); !until.IsZero() {
		msg := fmt.Sprintf("Back-off pulling image %q", r.Image)
		event(corev1.EventTypeNormal, "BackOff", "%s", msg)
		if entry.err != "" {
			msg += ": " + entry.err
		}
		return "", &Error{Reason: ReasonBackOff, Message: msg, Retry: until}
	}
	event(corev1.EventTypeNormal, "Pulling", "Pulling image %q", r.Image)
	started := time.Now()
	if err := p.enter(ctx); err != nil {
		return "", &Error{Reason: ReasonPull, Message: err.Error()}
	}
	pulling := time.Now()
	ref, secret, err := p.attempt(ctx, r, spec)
	p.leave()
	if err != nil {
		text := cri.Message(err)
		event(corev1.EventTypeWarning, "Failed", "Failed to pull image %q: %v", r.Image, err)
		e := classify(r.Image, text, err)
		e.Retry = p.failed(key, e.Reason+": "+e.Message, time.Now())
		return "", e
	}
	size := uint64(0)
	if img, err := p.runtime.ImageStatus(ctx, &runtimeapi.ImageSpec{Image: ref}); err == nil && img != nil {
		size, ref = img.Size, img.Id
	}
	event(corev1.EventTypeNormal, "Pulled", "Successfully pulled image %q in %v (%v including waiting). Image size: %v bytes.", r.Image,
		time.Since(pulling).Truncate(time.Millisecond), time.Since(started).Truncate(time.Millisecond), size)
	p.forget(key)
	if p.cfg.Records != nil {
		if err := p.cfg.Records.Pulled(r.Image, ref, secret, time.Now()); err != nil {
			p.log.Warn("note by which credentials an image came", zap.String("image", r.Image), zap.Error(err))
		}
	}
	return ref, nil
}

// attempt tries every credential that fits the image, and no credential when none does; secret is the one that did it.
func (p *Puller) attempt(ctx context.Context, r Request, spec *runtimeapi.ImageSpec) (ref string, secret *kubeletv1beta1.ImagePullSecret, err error) {
	if p.cfg.Records != nil {
		if err := p.cfg.Records.Intend(r.Image); err != nil {
			return "", nil, err
		}
		defer func() {
			if err != nil {
				p.cfg.Records.Failed(r.Image)
			}
		}()
	}
	auths := p.credentials(r)
	if len(auths) == 0 {
		auths = []Credential{{}}
	}
	for _, a := range auths {
		if ref, err = p.runtime.PullImage(ctx, spec, a.Auth, r.Sandbox); err == nil {
			return ref, a.Secret, nil
		}
	}
	return "", nil, err
}

func classify(image, text string, err error) *Error {
	for reason, words := range map[string]string{ReasonUnavailable: "the registry is unavailable", ReasonSignature: "the signature validation failed"} {
		if rest, ok := strings.CutPrefix(text, reason); ok {
			return &Error{Reason: reason, Message: fmt.Sprintf("image pull failed for %s because %s%s", image, words, rest)}
		}
	}
	return &Error{Reason: ReasonPull, Message: err.Error()}
}

func (p *Puller) enter(ctx context.Context) error {
	if err := p.limit.Wait(ctx); err != nil {
		return fmt.Errorf("pull QPS exceeded: %w", err)
	}
	if p.slots == nil {
		return nil
	}
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Puller) leave() {
	if p.slots != nil {
		<-p.slots
	}
}

func (p *Puller) waiting(key string, now time.Time) (entry backoffEntry, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.backoff[key]
	if !ok || now.Sub(e.last) >= e.delay {
		return e, time.Time{}
	}
	return e, e.last.Add(e.delay)
}

// failed doubles the delay of the image and bounds the table by dropping what has been quiet for twice the maximum.
func (p *Puller) failed(key, text string, now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, e := range p.backoff {
		if now.Sub(e.last) > 2*p.cfg.BackoffMax {
			delete(p.backoff, k)
		}
	}
	e := p.backoff[key]
	e.delay = min(max(2*e.delay, p.cfg.BackoffStart), p.cfg.BackoffMax)
	e.last, e.err = now, text
	p.backoff[key] = e
	return now.Add(e.delay)
}

func (p *Puller) forget(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.backoff, key)
}
