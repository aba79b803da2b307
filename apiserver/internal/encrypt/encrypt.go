package encrypt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Config is where the providers come from.
type Config struct {
	// Path is the file with the EncryptionConfiguration.
	Path string
	// Reload is whether changes of the file take effect while the process runs.
	Reload bool
	// ResourceOf says which resource a key of the store belongs to.
	ResourceOf func(key string) schema.GroupResource
}

// Transformer encrypts and decrypts stored values. It is safe for concurrent use.
type Transformer struct {
	cfg   Config
	log   *zap.Logger
	rules atomic.Pointer[rules]
	// seen is the sum of the file that was looked at last.
	seen [sha256.Size]byte
}

// New reads the configuration; one that cannot be used is an error that names the field.
func New(cfg Config, log *zap.Logger) (*Transformer, error) {
	data, err := os.ReadFile(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("--encryption-provider-config: %w", err)
	}
	r, err := parse(data, cfg.Reload)
	if err != nil {
		return nil, fmt.Errorf("--encryption-provider-config %s: %w", cfg.Path, err)
	}
	t := &Transformer{cfg: cfg, log: log, seen: sha256.Sum256(data)}
	t.rules.Store(&r)
	return t, nil
}

var errNoProvider = errors.New("no matching prefix found")

// FromStorage decrypts a value. It is stale where another key than the one that writes now has encrypted it.
func (t *Transformer) FromStorage(_ context.Context, key string, data []byte) (value []byte, stale bool, err error) {
	var errs []error
	for i, p := range t.rules.Load().of(t.cfg.ResourceOf(key)) {
		if !bytes.HasPrefix(data, []byte(p.prefix)) {
			continue
		}
		value, err := p.box.open(key, data[len(p.prefix):])
		if err == nil {
			return value, i > 0, nil
		}
		if p.prefix != "" { // what is encrypted is for a later provider
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		errs = append(errs, errNoProvider)
	}
	err = apierrors.NewInternalError(fmt.Errorf("unable to transform key %q: %w", key, errors.Join(errs...)))
	t.log.Error("a stored value cannot be decrypted", zap.Error(err))
	return nil, false, err
}

// ToStorage encrypts a value by the first provider of its resource.
func (t *Transformer) ToStorage(_ context.Context, key string, data []byte) ([]byte, error) {
	p := t.rules.Load().of(t.cfg.ResourceOf(key))[0]
	sealed, err := p.box.seal(key, data)
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

// Run follows the file until ctx ends. A file that cannot be used leaves the configuration as it is.
func (t *Transformer) Run(ctx context.Context) error {
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
			t.reload()
		}
	}
}

// reload takes over a file that differs from the last.
func (t *Transformer) reload() {
	data, err := os.ReadFile(t.cfg.Path)
	if err != nil {
		t.log.Error("the encryption configuration cannot be read: the last one is still used", zap.Error(err))
		return
	}
	sum := sha256.Sum256(data)
	if sum == t.seen {
		return
	}
	t.seen = sum
	r, err := parse(data, true)
	if err != nil {
		t.log.Error("the encryption configuration cannot be used: the last one is still used", zap.String("path", t.cfg.Path), zap.Error(err))
		return
	}
	t.rules.Store(&r)
	t.log.Info("the encryption configuration is loaded", zap.String("path", t.cfg.Path))
}
