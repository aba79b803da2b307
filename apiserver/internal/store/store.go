// Package store is the etcd of the API server: a client of an external
// cluster, or a server embedded in this process.
//
// Data in: keys below the prefix and the bytes of objects. Data out: the same
// bytes with the revision at which they were written. Every write is one
// transaction guarded by the key's mod revision. Stream owns no goroutine; an
// embedded server's goroutines end with its Close.
package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"flagship/apiserver/internal/timing"
	"flagship/apiserver/internal/tracing"
)

// Sentinels a caller branches on.
var (
	ErrNotFound  = errors.New("key not found")
	ErrExists    = errors.New("key exists")
	ErrCompacted = errors.New("revision compacted")
)

// Conflict means that a guarded write found another revision. Current is nil
// where the key is gone.
type Conflict struct {
	Current *Item
	// Revision is the store's at the time.
	Revision int64
}

func (c *Conflict) Error() string { return "key changed since it was read" }

// Item is a key with its value. The value must not be changed.
type Item struct {
	Key   string
	Value []byte
	// Rev is the revision of the last write to the key.
	Rev int64
	// Stale is whether the value is to be written again though it is the same.
	Stale bool
	// Sealed is whether the value is as it is stored, since it could not be transformed.
	Sealed bool
}

// Transformer turns stored values into what the process works with, and back:
// encryption at rest. The key authenticates the value.
type Transformer interface {
	// FromStorage also says whether the value is stale: stored in another way
	// than ToStorage stores it now, so that it is to be written again.
	FromStorage(ctx context.Context, key string, data []byte) (value []byte, stale bool, err error)
	ToStorage(ctx context.Context, key string, data []byte) ([]byte, error)
}

// identity stores values as they are.
type identity struct{}

func (identity) FromStorage(_ context.Context, _ string, data []byte) ([]byte, bool, error) {
	return data, false, nil
}

func (identity) ToStorage(_ context.Context, _ string, data []byte) ([]byte, error) { return data, nil }

// Chain is two transformers: what is stored goes through Outer, then Inner.
type Chain struct{ Outer, Inner Transformer }

// FromStorage implements Transformer.
func (c Chain) FromStorage(ctx context.Context, key string, data []byte) ([]byte, bool, error) {
	data, outer, err := c.Outer.FromStorage(ctx, key, data)
	if err != nil {
		return nil, false, err
	}
	data, inner, err := c.Inner.FromStorage(ctx, key, data)
	return data, outer || inner, err
}

// ToStorage implements Transformer.
func (c Chain) ToStorage(ctx context.Context, key string, data []byte) ([]byte, error) {
	data, err := c.Inner.ToStorage(ctx, key, data)
	if err != nil {
		return nil, err
	}
	return c.Outer.ToStorage(ctx, key, data)
}

// Config shapes a store.
type Config struct {
	// Prefix heads every key, "/registry" by default, without a slash at the end.
	Prefix string
	// Transformer is nil for values stored as they are.
	Transformer Transformer
	Metrics     *Metrics
}

// Store is safe for concurrent use.
type Store struct {
	client      *clientv3.Client
	prefix      string
	transformer Transformer
	metrics     *Metrics
	leases      leaseReuser
}

// New returns a store over a client, which stays the caller's to close.
func New(cfg Config, client *clientv3.Client) *Store {
	t := cfg.Transformer
	if t == nil {
		t = identity{}
	}
	return &Store{client: client, prefix: strings.TrimSuffix(cfg.Prefix, "/"), transformer: t, metrics: cfg.Metrics}
}

// Prefix heads every key, without a slash at the end.
func (s *Store) Prefix() string { return s.prefix }

// Client is the etcd client that the store uses.
func (s *Store) Client() *clientv3.Client { return s.client }

// Get reads a key with linearizability. The revision is the store's.
func (s *Store) Get(ctx context.Context, key string) (Item, int64, error) {
	defer timing.From(ctx).Since(timing.Storage, time.Now())
	ctx, end := tracing.Start(ctx, "etcd get")
	defer end()
	start := time.Now()
	resp, err := s.client.Get(ctx, s.prefix+key)
	s.metrics.requested(opGet, s.prefix+key, start, err)
	if err != nil {
		return Item{}, 0, fmt.Errorf("get %s: %w", key, err)
	}
	if len(resp.Kvs) == 0 {
		return Item{}, resp.Header.Revision, ErrNotFound
	}
	value, stale, err := s.transformer.FromStorage(ctx, s.prefix+key, resp.Kvs[0].Value)
	if err != nil {
		return Item{}, 0, &Unreadable{key, resp.Kvs[0].ModRevision, err}
	}
	return Item{Key: key, Value: value, Rev: resp.Kvs[0].ModRevision, Stale: stale}, resp.Header.Revision, nil
}

// Create writes a key that must not exist, ErrExists where it does. A ttl
// above zero lets it expire, in whole seconds.
func (s *Store) Create(ctx context.Context, key string, value []byte, ttl time.Duration) (int64, error) {
	defer timing.From(ctx).Since(timing.Storage, time.Now())
	ctx, end := tracing.Start(ctx, "etcd create")
	defer end()
	put, err := s.put(ctx, key, value, ttl)
	if err != nil {
		return 0, fmt.Errorf("create %s: %w", key, err)
	}
	start := time.Now()
	resp, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(s.prefix+key), "=", 0)).Then(put).Commit()
	s.metrics.requested(opCreate, s.prefix+key, start, err)
	switch {
	case err != nil:
		return 0, fmt.Errorf("create %s: %w", key, err)
	case !resp.Succeeded:
		return 0, ErrExists
	}
	return resp.Header.Revision, nil
}

// Update writes a key that must be at revision rev, else a *Conflict. A ttl of
// zero keeps no lease.
func (s *Store) Update(ctx context.Context, key string, value []byte, rev int64, ttl time.Duration) (int64, error) {
	put, err := s.put(ctx, key, value, ttl)
	if err != nil {
		return 0, fmt.Errorf("update %s: %w", key, err)
	}
	return s.guarded(ctx, opUpdate, key, rev, put)
}

// Delete removes a key that must be at revision rev, else a *Conflict.
func (s *Store) Delete(ctx context.Context, key string, rev int64) (int64, error) {
	return s.guarded(ctx, opDelete, key, rev, clientv3.OpDelete(s.prefix+key))
}

func (s *Store) put(ctx context.Context, key string, value []byte, ttl time.Duration) (clientv3.Op, error) {
	stored, err := s.transformer.ToStorage(ctx, s.prefix+key, value)
	if err != nil {
		return clientv3.Op{}, err
	}
	if ttl <= 0 {
		return clientv3.OpPut(s.prefix+key, string(stored)), nil
	}
	lease, err := s.leases.get(ctx, s.client, ttl, s.metrics.leases)
	if err != nil {
		return clientv3.Op{}, err
	}
	return clientv3.OpPut(s.prefix+key, string(stored), clientv3.WithLease(lease)), nil
}

func (s *Store) guarded(ctx context.Context, kind operation, key string, rev int64, op clientv3.Op) (int64, error) {
	defer timing.From(ctx).Since(timing.Storage, time.Now())
	ctx, end := tracing.Start(ctx, "etcd write")
	defer end()
	start := time.Now()
	resp, err := s.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(s.prefix+key), "=", rev)).
		Then(op).Else(clientv3.OpGet(s.prefix + key)).Commit()
	s.metrics.requested(kind, s.prefix+key, start, err)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", key, err)
	}
	if resp.Succeeded {
		return resp.Header.Revision, nil
	}
	conflict := &Conflict{Revision: resp.Header.Revision}
	if kvs := resp.Responses[0].GetResponseRange().GetKvs(); len(kvs) == 1 {
		value, stale, err := s.transformer.FromStorage(ctx, s.prefix+key, kvs[0].Value)
		if err != nil {
			return 0, &Unreadable{key, kvs[0].ModRevision, err}
		}
		conflict.Current = &Item{Key: key, Value: value, Rev: kvs[0].ModRevision, Stale: stale}
	}
	return 0, conflict
}

// Unreadable is a value that could not be transformed, such as one whose key of encryption is gone.
type Unreadable struct {
	// Key is without the store's prefix.
	Key string
	Rev int64
	Err error
}

// Error implements error in upstream's words, which do not know the revision.
func (u *Unreadable) Error() string {
	return fmt.Sprintf("data from the storage is not transformable revision=0: %v", u.Err)
}

// Unwrap implements errors.Unwrap.
func (u *Unreadable) Unwrap() error { return u.Err }

// Page is a part of a list.
type Page struct {
	Items []Item
	// More is whether keys follow the last item.
	More bool
	// Count is how many keys there are from the start of the page on.
	Count int64
	// Revision is the one that the page was read at.
	Revision int64
}

// List reads up to limit keys below prefix from start on (both without the
// store's prefix), at revision rev or, where that is 0, at the current one.
// ErrCompacted means that rev is too old.
func (s *Store) List(ctx context.Context, prefix, start string, limit, rev int64) (Page, error) {
	defer timing.From(ctx).Since(timing.Storage, time.Now())
	ctx, end := tracing.Start(ctx, "etcd list")
	defer end()
	if start == "" {
		start = prefix
	}
	opts := []clientv3.OpOption{
		clientv3.WithRange(clientv3.GetPrefixRangeEnd(s.prefix + prefix)),
		clientv3.WithLimit(limit),
	}
	if rev > 0 {
		opts = append(opts, clientv3.WithRev(rev))
	}
	asked := time.Now()
	defer s.metrics.listed(s.prefix+prefix, asked)
	resp, err := s.client.Get(ctx, s.prefix+start, opts...)
	s.metrics.requested(opList, s.prefix+prefix, asked, err)
	if err != nil {
		if errors.Is(err, rpctypes.ErrCompacted) {
			return Page{}, ErrCompacted
		}
		return Page{}, fmt.Errorf("list %s: %w", prefix, err)
	}
	page := Page{More: resp.More, Count: resp.Count, Revision: resp.Header.Revision, Items: make([]Item, 0, len(resp.Kvs))}
	if rev > 0 {
		page.Revision = rev
	}
	for _, kv := range resp.Kvs {
		page.Items = append(page.Items, s.item(ctx, kv))
	}
	return page, nil
}

// Revision is the store's current one, with linearizability.
func (s *Store) Revision(ctx context.Context) (int64, error) {
	defer timing.From(ctx).Since(timing.Storage, time.Now())
	ctx, end := tracing.Start(ctx, "etcd revision")
	defer end()
	start := time.Now()
	resp, err := s.client.Get(ctx, s.prefix+"/", clientv3.WithLimit(1), clientv3.WithCountOnly())
	s.metrics.requested(opRevision, "", start, err)
	if err != nil {
		return 0, fmt.Errorf("read revision: %w", err)
	}
	return resp.Header.Revision, nil
}

// Event is one change of a key. Value is nil for a deletion.
type Event struct {
	Item
	Deleted bool
}

// Stream calls apply with every change after revision after, in order; a batch
// holds whole revisions and ends at revision rev. It blocks until ctx ends or
// the stream breaks; ErrCompacted means that after is too old.
func (s *Store) Stream(ctx context.Context, after int64, apply func(events []Event, rev int64)) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	// The whole key space is watched, so that the stream's revision is the
	// store's and a consistent read need only wait for it.
	watch := s.client.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(after+1))
	for resp := range watch {
		if err := resp.Err(); err != nil {
			if errors.Is(err, rpctypes.ErrCompacted) {
				return ErrCompacted
			}
			return fmt.Errorf("watch: %w", err)
		}
		if resp.Created {
			continue
		}
		if resp.IsProgressNotify() {
			s.metrics.bookmarks.Inc()
		}
		rev := resp.Header.Revision
		if n := len(resp.Events); n > 0 {
			// While etcd catches up, the header tells of changes that are in later answers.
			rev = resp.Events[n-1].Kv.ModRevision
		}
		apply(s.decode(ctx, resp.Events), rev)
	}
	return ctx.Err()
}

// item is what the store holds of a key. A value that cannot be transformed is
// left as it is stored: who asks for the object is told, and the others are
// served.
func (s *Store) item(ctx context.Context, kv *mvccpb.KeyValue) Item {
	it := Item{Key: string(kv.Key[len(s.prefix):]), Value: kv.Value, Rev: kv.ModRevision}
	value, stale, err := s.transformer.FromStorage(ctx, string(kv.Key), kv.Value)
	if err != nil {
		it.Sealed = true
		return it
	}
	it.Value, it.Stale = value, stale
	return it
}

func (s *Store) decode(ctx context.Context, in []*clientv3.Event) []Event {
	out := make([]Event, 0, len(in))
	prefix := []byte(s.prefix + "/")
	for _, e := range in {
		if !bytes.HasPrefix(e.Kv.Key, prefix) {
			continue
		}
		s.metrics.received(string(e.Kv.Key))
		if e.Type == clientv3.EventTypeDelete {
			out = append(out, Event{Item: Item{Key: string(e.Kv.Key[len(s.prefix):]), Rev: e.Kv.ModRevision}, Deleted: true})
			continue
		}
		out = append(out, Event{Item: s.item(ctx, e.Kv)})
	}
	return out
}

// Keys of the compaction record, shared with upstream's API servers so that
// only one of several compacts.
const compactKey = "compact_rev_key"

// Compact drops the history before the revision that was current one interval
// ago, every interval, until ctx ends. Several API servers agree on who does
// it by a transaction on compact_rev_key, as upstream's do.
func (s *Store) Compact(ctx context.Context, interval time.Duration) error {
	var version, rev int64
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		resp, err := s.client.Txn(ctx).
			If(clientv3.Compare(clientv3.Version(compactKey), "=", version)).
			Then(clientv3.OpPut(compactKey, fmt.Sprint(rev))).
			Else(clientv3.OpGet(compactKey)).Commit()
		if err != nil {
			continue
		}
		current := resp.Header.Revision
		if !resp.Succeeded {
			version = resp.Responses[0].GetResponseRange().Kvs[0].Version
			rev = current
			continue
		}
		version++
		if rev > 0 {
			// A failed compaction is tried again with the next interval.
			_, _ = s.client.Compact(ctx, rev)
		}
		rev = current
	}
}

// leaseReuser hands one lease to many keys: etcd's cost is per lease, and a
// key of an hour may well live a minute longer.
type leaseReuser struct {
	mu    sync.Mutex // guards what follows
	id    clientv3.LeaseID
	ttl   time.Duration
	until time.Time
	used  int
}

// How long one lease is handed out, and to how many keys at the most:
// upstream's bounds.
const (
	leaseReuse    = 60 * time.Second
	leaseMaxUsers = 1000
)

func (l *leaseReuser) get(ctx context.Context, client *clientv3.Client, ttl time.Duration, counts prometheus.Observer) (clientv3.LeaseID, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used++
	if l.id != 0 && l.ttl == ttl && l.used <= leaseMaxUsers && time.Now().Before(l.until) {
		return l.id, nil
	}
	// The lock is held while etcd answers on purpose: all that wait for it
	// wait for this very lease.
	grant, err := client.Grant(ctx, int64((ttl+leaseReuse)/time.Second))
	if err != nil {
		return 0, fmt.Errorf("grant lease: %w", err)
	}
	counts.Observe(float64(l.used)) // with the one that it is not for any more, as upstream's
	l.id, l.ttl, l.until, l.used = grant.ID, ttl, time.Now().Add(leaseReuse), 1
	return l.id, nil
}
