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

// Cache remembers recognized tokens for TokenCacheTTL. Refusals are not remembered.
type Cache struct {
	next TokenAuthenticator
	now  func() time.Time

	mu      sync.Mutex // guards entries
	entries map[[32]byte]cached
}

type cached struct {
	id      *Identity
	expires time.Time
}

// NewCache returns a Cache in front of next.
func NewCache(next TokenAuthenticator) *Cache {
	return &Cache{next: next, now: time.Now, entries: map[[32]byte]cached{}}
}

// AuthenticateToken implements TokenAuthenticator.
func (c *Cache) AuthenticateToken(ctx context.Context, token string) (*Identity, bool, error) {
	auds, explicit := audiencesFrom(ctx)
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
		return e.id, true, nil
	}
	id, ok, err := c.next.AuthenticateToken(ctx, token)
	if ok && err == nil {
		c.mu.Lock()
		c.evict(now)
		c.entries[key] = cached{id: id, expires: now.Add(TokenCacheTTL)}
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
