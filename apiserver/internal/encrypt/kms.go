package encrypt

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/util/cache"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/apis/apiserver"
	kmsv2 "k8s.io/kms/apis/v2"
)

// Times of a key management service, upstream's.
const (
	// goodInterval and badInterval are between two looks at a service.
	goodInterval = time.Minute
	badInterval  = 10 * time.Second
	// goodTTL and badTTL are how long the answer to one look serves the health checks.
	goodTTL = 20 * time.Second
	badTTL  = 3 * time.Second
	// sealTTL is how long a seed seals values after the service has last said that its key is the current one.
	sealTTL = 3 * time.Minute
)

// opened bounds the seeds and keys that are kept in the clear, and for how long.
const (
	maxOpened = 1024
	openedTTL = 24 * time.Hour
)

// kms is a key management service (KMS v2, KEP-3299): it seals the seed by which this process seals values. A service
// that does not answer leaves values readable whose seed is known, and writes possible for sealTTL.
type kms struct {
	name    string
	timeout time.Duration
	conn    *grpc.ClientConn
	client  kmsv2.KeyManagementServiceClient
	log     *zap.Logger
	metrics *Metrics
	// recovered is called when the service answers again, and values were not read meanwhile.
	recovered func()

	sealing atomic.Pointer[sealing]
	// opened are the boxes of sources, by source.id.
	opened *cache.LRUExpireCache
	// unread is whether a value could not be read since the service did not answer.
	unread atomic.Bool
	// silent is whether the last call had no answer: reads do not wait for another.
	silent atomic.Pointer[silence]

	mu      sync.Mutex // guards what follows, and that one look is taken at a time
	looked  time.Time
	lookErr error
	version string
}

// sealing is by what values are sealed now.
type sealing struct {
	source
	box     *seedBox
	expires time.Time
}

// silence is an error that stands until the service is looked at again.
type silence struct {
	err   error
	until time.Time
}

func newKMS(c *apiserver.KMSConfiguration, m *Metrics, log *zap.Logger) (*kms, error) {
	if c.APIVersion != "v2" {
		return nil, fmt.Errorf("kms: apiVersion %s of %s: upstream has switched it off by default, and this version does not have it: use v2", c.APIVersion, c.Name)
	}
	endpoint, err := url.Parse(c.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("kms: endpoint of %s: %w", c.Name, err)
	}
	// unix:///@name is a socket without a file.
	path := endpoint.Path
	if strings.HasPrefix(path, "/@") {
		path = path[1:]
	}
	k := &kms{name: c.Name, timeout: c.Timeout.Duration, log: log.With(zap.String("kms", c.Name)), metrics: m, opened: cache.NewLRUExpireCache(maxOpened)}
	k.conn, err = grpc.NewClient("passthrough:///kms",
		grpc.WithAuthority("localhost"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		// A service that comes back is on this host: it is not kept waiting for the minutes that are gRPC's default.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: badTTL}, MinConnectTimeout: time.Second,
		}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}),
		grpc.WithUnaryInterceptor(k.measure),
	)
	if err != nil {
		return nil, fmt.Errorf("kms: %s: %w", c.Name, err)
	}
	k.client = kmsv2.NewKeyManagementServiceClient(k.conn)
	return k, nil
}

// measure counts a call, and notes whether there was an answer.
func (k *kms) measure(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	start := time.Now()
	err := call(ctx, method, req, reply, cc, opts...)
	k.metrics.called(k.name, method, time.Since(start), err)
	switch {
	case unanswered(err):
		k.silent.Store(&silence{err: err, until: time.Now().Add(badInterval)})
	case status.Code(err) != codes.Canceled:
		k.silent.Store(nil)
	}
	return err
}

func unanswered(err error) bool {
	c := status.Code(err)
	return c == codes.Unavailable || c == codes.DeadlineExceeded
}

// prefix begins the values of the service.
func (k *kms) prefix() string { return string(encrypted) + "kms:v2:" + k.name + ":" }

// close ends the connection.
func (k *kms) close() { _ = k.conn.Close() }

// run looks at the service until ctx ends.
func (k *kms) run(ctx context.Context) {
	for {
		wait := goodInterval
		if k.check(ctx) != nil {
			wait = badInterval
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// check asks the service how it is, and takes another seed where it has another key. The answer to a look a moment ago
// serves again.
func (k *kms) check(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	ttl := goodTTL
	if k.lookErr != nil {
		ttl = badTTL
	}
	if time.Since(k.looked) < ttl {
		return k.lookErr
	}
	err := k.look(ctx)
	if err != nil && k.lookErr == nil {
		k.log.Error("the key management service is not healthy", zap.Error(err))
	}
	k.looked, k.lookErr = time.Now(), err
	if err == nil && k.unread.Swap(false) && k.recovered != nil {
		k.recovered()
	}
	return err
}

func (k *kms) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	s, err := k.client.Status(ctx, &kmsv2.StatusRequest{})
	if err != nil {
		return fmt.Errorf("failed to perform status section of the healthz check for KMS Provider %s, error: %w", k.name, err)
	}
	var errs []error
	if s.Healthz != "ok" {
		errs = append(errs, fmt.Errorf("got unexpected healthz status: %s", s.Healthz))
	}
	switch {
	case s.Version != "v2" && s.Version != "v2beta1":
		errs = append(errs, fmt.Errorf("expected KMSv2 API version v2, got %s", s.Version))
	case k.version == "":
		k.version = s.Version
	case k.version != s.Version:
		errs = append(errs, fmt.Errorf("KMSv2 API version should not change after the initial status response version %s, got %s", k.version, s.Version))
	}
	if err := validateKeyID(s.KeyId); err != nil {
		k.metrics.invalidKeyID(k.name, s.KeyId)
		errs = append(errs, fmt.Errorf("got invalid KMSv2 KeyID hash %q: %w", hashOf(s.KeyId), err))
	} else {
		k.metrics.toldKey(k.name, s.KeyId)
		if err := k.rotate(ctx, s.KeyId); err != nil {
			errs = append(errs, err)
		}
	}
	if err := utilerrors.Reduce(utilerrors.NewAggregate(errs)); err != nil {
		return fmt.Errorf("kmsv2 Provider %s is not healthy, error: %w", k.name, err)
	}
	return nil
}

// rotate takes a seed that is sealed by the service's key of now; one that is there already goes on.
func (k *kms) rotate(ctx context.Context, keyID string) error {
	// The time begins before the service is asked, so that it is a bound.
	expires := time.Now().Add(sealTTL)
	if old := k.sealing.Load(); old != nil && old.keyID == keyID {
		next := *old
		next.expires = expires
		k.sealing.Store(&next)
		return nil
	}
	start, seed := time.Now(), make([]byte, seedSize)
	_, err := rand.Read(seed)
	k.metrics.generated(start, err)
	if err != nil {
		return err
	}
	box, err := newSeedBox(seed)
	if err != nil {
		return err
	}
	out, err := k.client.Encrypt(ctx, &kmsv2.EncryptRequest{Plaintext: seed, Uid: uuid.NewString()})
	if err != nil {
		return fmt.Errorf("failed to rotate DEK: failed to encrypt DEK, error: %w", err)
	}
	next := &sealing{source: source{keyID: out.KeyId, sealed: out.Ciphertext, annotations: out.Annotations, kind: seedSource}, box: box, expires: expires}
	if err := next.validate(); err != nil {
		return fmt.Errorf("failed to rotate DEK: %w", err)
	}
	if next.keyID != keyID {
		return fmt.Errorf("failed to rotate DEK: the status has the key ID hash %q, and what was encrypted %q", hashOf(keyID), hashOf(next.keyID))
	}
	k.sealing.Store(next)
	k.keep(next.id(), box)
	k.log.Info("values are sealed by another seed", zap.String("keyIDHash", hashOf(keyID)))
	return nil
}

func (k *kms) keep(id string, b box) {
	k.opened.Add(id, b, openedTTL)
	k.metrics.cached(k.name, len(k.opened.Keys()))
}

var errNoSeed = errors.New("got unexpected nil transformer: the key management service has not sealed a seed yet")

func (k *kms) seal(key string, plain []byte) ([]byte, error) {
	s := k.sealing.Load()
	if s == nil {
		return nil, errNoSeed
	}
	if now := time.Now(); now.After(s.expires) {
		return nil, fmt.Errorf("encryptedDEKSource with keyID hash %q expired at %s (current time is %s)", hashOf(s.keyID), s.expires.Format(time.RFC3339), now.Format(time.RFC3339))
	}
	data, err := s.box.seal(key, plain)
	if err != nil {
		return nil, err
	}
	k.metrics.usedKey(toStorage, k.name, s.keyID)
	e := envelope{source: s.source, data: data}
	return e.marshal(), nil
}

// openStored opens a value. It is stale where another key than the service's of now is behind it.
func (k *kms) openStored(ctx context.Context, key string, sealed []byte) (plain []byte, stale bool, err error) {
	var e envelope
	if err := e.unmarshal(sealed); err != nil {
		return nil, false, err
	}
	s := k.sealing.Load()
	b, err := k.boxOf(ctx, &e.source)
	if err != nil {
		return nil, false, fmt.Errorf("failed to decrypt DEK, error: %w", err)
	}
	k.metrics.usedKey(fromStorage, k.name, e.keyID)
	plain, err = b.open(key, e.data)
	return plain, s == nil || e.keyID != s.keyID || e.kind != s.kind, err
}

// boxOf asks the service to open a source that is not known.
func (k *kms) boxOf(ctx context.Context, s *source) (box, error) {
	id := s.id()
	if b, ok := k.opened.Get(id); ok {
		return b.(box), nil
	}
	k.metrics.misses.Inc()
	if q := k.silent.Load(); q != nil && time.Now().Before(q.until) {
		k.unread.Store(true)
		return nil, q.err
	}
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	out, err := k.client.Decrypt(ctx, &kmsv2.DecryptRequest{Ciphertext: s.sealed, Uid: uuid.NewString(), KeyId: s.keyID, Annotations: s.annotations})
	if err != nil {
		if unanswered(err) {
			k.unread.Store(true)
		}
		return nil, err
	}
	var b box
	if s.kind == seedSource {
		b, err = newSeedBox(out.Plaintext)
	} else {
		b, err = newGCM(out.Plaintext)
	}
	if err != nil {
		return nil, err
	}
	k.keep(id, b)
	return b, nil
}

// id tells a source from others.
func (s *source) id() string {
	var b strings.Builder
	add := func(x string) { fmt.Fprintf(&b, "%d:%s", len(x), x) }
	fmt.Fprintf(&b, "%d,", s.kind)
	add(string(s.sealed))
	add(s.keyID)
	keys := make([]string, 0, len(s.annotations))
	for k := range s.annotations {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		add(k)
		add(string(s.annotations[k]))
	}
	return b.String()
}

// hashOf is how logs and errors name a key: its name may be a secret of the service's.
func hashOf(keyID string) string {
	if keyID == "" {
		return ""
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(keyID)))
}
