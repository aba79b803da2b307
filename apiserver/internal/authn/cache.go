package authn

import (
	"context"
	"crypto/sha256"
	"strings"
	"sync"
	"time"
)

// TokenCacheTTL is how long a recognized token is not looked at again, as upstream's.
const TokenCacheTTL = 10 * time.Second

// tokenCacheSize bounds the cache.
const tokenCacheSize = 4096

// Cache remembers what was said of tokens. Errors are not remembered.
type Cache struct {
	next TokenAuthenticator
	now  func() time.Time
	// good and bad are how long a token that was recognized is not looked at again, and one that was not; 0 forgets at once.
	good, bad time.Duration
	metrics   *cacheMetrics

	mu      sync.Mutex // guards entries
	entries map[[32]byte]cached
}

type cached struct {
	id      *Identity // nil of a token that was not recognized
	expires time.Time
}

// NewCache returns a Cache in front of next, which remembers for so long what is recognized, and what is not.
func NewCache(next TokenAuthenticator, good, bad time.Duration, m *Metrics) *Cache {
	return &Cache{next: next, now: time.Now, good: good, bad: bad, metrics: m.cache, entries: map[[32]byte]cached{}}
}

// AuthenticateToken implements TokenAuthenticator.
func (c *Cache) AuthenticateToken(ctx context.Context, token string) (*Identity, bool, error) {
	start := time.Now()
	auds, explicit := AudiencesFrom(ctx)
	text := token
	if explicit {
		text += "\x00" + strings.Join(auds, "\x00")
	}
	key := sha256.Sum256([]byte(text))
	now := c.now()
	c.mu.Lock()
	e, hit := c.entries[key]
	c.mu.Unlock()
	if hit && now.Before(e.expires) {
		c.metrics.hit().since(start)
		return e.id, e.id != nil, nil
	}
	fetched := c.metrics.fetch(start)
	id, ok, err := c.next.AuthenticateToken(ctx, token)
	fetched(err)
	ttl := c.good
	if !ok {
		id, ttl = nil, c.bad
	}
	if err == nil && ttl > 0 {
		c.mu.Lock()
		c.evict(now)
		c.entries[key] = cached{id: id, expires: now.Add(ttl)}
		c.mu.Unlock()
	}
	return id, ok, err
}

// evict makes room: what has expired goes, and if that is not enough, everything.
func (c *Cache) evict(now time.Time) {
	if len(c.entries) < tokenCacheSize {
		return
	}
	for k, e := range c.entries {
		if !now.Before(e.expires) {
			delete(c.entries, k)
		}
	}
	if len(c.entries) >= tokenCacheSize {
		clear(c.entries)
	}
}
