package encrypt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
)

// Config is where the providers come from.
type Config struct {
	// Path is the file with the EncryptionConfiguration.
	Path string
	// Reload is whether changes of the file take effect while the process runs.
	Reload bool
	// ResourceOf says which resource a key of the store belongs to.
	ResourceOf func(key string) schema.GroupResource
	// Recovered is called when values can be read that could not, since a key management service answers again.
	Recovered func()
	Metrics   *Metrics
}

// Transformer encrypts and decrypts stored values. It is safe for concurrent use.
type Transformer struct {
	cfg Config
	log *zap.Logger
	now atomic.Pointer[current]
	// seen is the sum of the file that was used last, or is wrong.
	seen [sha256.Size]byte
}

// current is one state of the configuration.
type current struct {
	rules    rules
	services []*kms
	// stop ends the looks at the services.
	stop context.CancelFunc
}

// New reads the configuration; one that cannot be used is an error that names the field. A key management service that
// does not answer is no error: it may start after this process.
func New(ctx context.Context, cfg Config, log *zap.Logger) (*Transformer, error) {
	data, err := os.ReadFile(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("--encryption-provider-config: %w", err)
	}
	t := &Transformer{cfg: cfg, log: log, seen: sha256.Sum256(data)}
	c, err := t.parse(data, cfg.Reload)
	if err != nil {
		return nil, fmt.Errorf("--encryption-provider-config %s: %w", cfg.Path, err)
	}
	for _, k := range c.services {
		_ = k.check(ctx) // it says so itself
	}
	t.now.Store(c)
	t.cfg.Metrics.inForce(t.seen)
	return t, nil
}

// close ends what a configuration that is no longer used has.
func (c *current) close() {
	if c.stop != nil {
		c.stop()
	}
	for _, k := range c.services {
		k.close()
	}
}

var errNoProvider = errors.New("no matching prefix found")

// FromStorage decrypts a value. It is stale where another key than the one that writes now has encrypted it.
func (t *Transformer) FromStorage(ctx context.Context, key string, data []byte) (value []byte, stale bool, err error) {
	var errs []error
	start, gr := time.Now(), t.cfg.ResourceOf(key)
	count := func(prefix string, err error) {
		t.cfg.Metrics.transformed(transformation{gr, fromStorage, prefix}, start, err)
	}
	providers, named := t.now.Load().rules.of(gr)
	for i, p := range providers {
		if !bytes.HasPrefix(data, []byte(p.prefix)) {
			continue
		}
		value, stale, err := p.open(ctx, key, data[len(p.prefix):])
		switch {
		case !named:
		case p.prefix != "":
			count(p.prefix, err)
		case err == nil:
			count("identity", nil)
		}
		if err == nil {
			return value, stale || i > 0, nil
		}
		if p.prefix != "" { // what is encrypted is for a later provider
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		errs = append(errs, errNoProvider)
		if named {
			count("unknown", errNoProvider)
		}
	}
	err = errors.Join(errs...)
	t.log.Error("a stored value cannot be decrypted", zap.String("key", key), zap.Error(err))
	return nil, false, err
}

// ToStorage encrypts a value by the first provider of its resource.
func (t *Transformer) ToStorage(_ context.Context, key string, data []byte) ([]byte, error) {
	start, gr := time.Now(), t.cfg.ResourceOf(key)
	providers, named := t.now.Load().rules.of(gr)
	p := providers[0]
	sealed, err := p.seal(key, data)
	if named {
		t.cfg.Metrics.transformed(transformation{gr, toStorage, p.prefix}, start, err)
	}
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("unable to transform key %q: %w", key, err))
	}
	if p.prefix == "" {
		return sealed, nil
	}
	return append([]byte(p.prefix), sealed...), nil
}

// reloadInterval is how often the file is looked at, upstream's.
const reloadInterval = time.Minute

// closeAfter is how long a configuration that has been replaced may serve the requests that use it.
const closeAfter = time.Minute

// Run looks at the key management services, and follows the file, until ctx ends. A file that cannot be used leaves the
// configuration as it is.
func (t *Transformer) Run(ctx context.Context) error {
	var looks sync.WaitGroup
	defer looks.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.look(ctx, t.now.Load(), &looks)
	defer func() { t.now.Load().close() }()
	if !t.cfg.Reload {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(reloadInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			t.reload(ctx, &looks)
		}
	}
}

// look starts to look at a configuration's services.
func (t *Transformer) look(ctx context.Context, c *current, looks *sync.WaitGroup) {
	ctx, c.stop = context.WithCancel(ctx)
	for _, k := range c.services {
		looks.Go(func() { k.run(ctx) })
	}
}

// reload takes over a file that differs from the last.
func (t *Transformer) reload(ctx context.Context, looks *sync.WaitGroup) {
	data, err := os.ReadFile(t.cfg.Path)
	if err != nil {
		t.log.Error("the encryption configuration cannot be read: the last one is still used", zap.Error(err))
		return
	}
	sum := sha256.Sum256(data)
	if sum == t.seen {
		return
	}
	next, err := t.parse(data, true)
	if err == nil {
		// A service that is not well is asked again the next time: nothing could be written by it.
		if err = next.check(ctx); err != nil {
			next.close()
		}
	}
	t.cfg.Metrics.reloaded(err)
	if err != nil {
		t.log.Error("the encryption configuration cannot be used: the last one is still used", zap.String("path", t.cfg.Path), zap.Error(err))
		return
	}
	t.seen = sum
	t.cfg.Metrics.inForce(sum)
	old := t.now.Swap(next)
	t.look(ctx, next, looks)
	if old.stop != nil {
		old.stop()
	}
	time.AfterFunc(closeAfter, old.close)
	t.log.Info("the encryption configuration is loaded", zap.String("path", t.cfg.Path))
}

// Remote is whether there are key management services, or may be.
func (t *Transformer) Remote() bool { return t.cfg.Reload || len(t.now.Load().services) > 0 }

// Check is whether all key management services are well.
func (t *Transformer) Check(ctx context.Context) error { return t.now.Load().check(ctx) }

func (c *current) check(ctx context.Context) error {
	var errs []error
	for _, k := range c.services {
		if err := k.check(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	return utilerrors.NewAggregate(errs)
}
