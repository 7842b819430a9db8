package devices

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// answer is what is known of a credential: whose it is, or why it is refused.
type answer struct {
	device Device
	err    error         // nil, ErrUnauthenticated or ErrDisabled
	lives  time.Duration // until the credential expires; 0: it does not
}

// remembered is an answer and the time until which it may be given.
type remembered struct {
	device Device
	err    error
	until  time.Time
}

// cache remembers answers: good credentials and refusals apart, so that a storm
// of bad ones can't push out the good ones. Both are bounded; the least
// recently used goes first.
//
// An answer from the database may be overtaken by the news that makes it
// wrong. So begin and finish bracket the one lookup that is under way at a
// time, and finish keeps nothing that news arrived about in between.
type cache struct {
	goodFor, refusedFor time.Duration

	mu       sync.Mutex
	good     *simplelru.LRU[credentialKey, remembered]
	refused  *simplelru.LRU[credentialKey, remembered]
	byDevice map[int32][]credentialKey // keys in good
	news     news                      // since begin
}

// news is what was heard during a lookup.
type news struct {
	everything bool // or too much to list
	refusals   bool // a refusal may be wrong now
	devices    []int32
}

// maxNews bounds the list of devices heard of during one lookup.
const maxNews = 256

func newCache(size, refusedSize int, goodFor, refusedFor time.Duration) *cache {
	c := &cache{goodFor: goodFor, refusedFor: refusedFor, byDevice: make(map[int32][]credentialKey)}
	// The only error is a size below 1, which Config rules out.
	c.good, _ = simplelru.NewLRU(size, c.forgetKey)
	c.refused, _ = simplelru.NewLRU[credentialKey, remembered](refusedSize, nil)
	return c
}

// forgetKey keeps byDevice in step with good; called under mu by the LRU.
func (c *cache) forgetKey(key credentialKey, r remembered) {
	keys := c.byDevice[r.device.ID]
	if at := slices.Index(keys, key); at >= 0 {
		keys = slices.Delete(keys, at, at+1)
	}
	if len(keys) == 0 {
		delete(c.byDevice, r.device.ID)
	} else {
		c.byDevice[r.device.ID] = keys
	}
}

// get answers from memory, if it can. It does not allocate.
func (c *cache) get(key credentialKey, now time.Time) (remembered, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok := c.good.Get(key); ok {
		if now.Before(r.until) {
			return r, true
		}
		c.good.Remove(key)
	}
	if r, ok := c.refused.Get(key); ok {
		if now.Before(r.until) {
			return r, true
		}
		c.refused.Remove(key)
	}
	return remembered{}, false
}

// begin is called before a lookup's query is sent.
func (c *cache) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.news = news{devices: c.news.devices[:0]}
}

// finish remembers what the lookup found, save for what may be outdated.
func (c *cache) finish(keys []credentialKey, answers []answer) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.news.everything {
		return
	}
	for i, a := range answers {
		if a.err != nil {
			if !c.news.refusals {
				c.refused.Add(keys[i], remembered{a.device, a.err, now.Add(c.refusedFor)})
			}
			continue
		}
		if slices.Contains(c.news.devices, a.device.ID) {
			continue
		}
		// Spread out, so that what was learned in one storm is not asked for in another.
		lives := time.Duration(float64(c.goodFor) * (0.9 + 0.2*rand.Float64())) //nolint:gosec // jitter, no secret
		if a.lives > 0 {
			lives = min(lives, a.lives)
		}
		c.good.Remove(keys[i]) // else byDevice would name the key twice
		c.good.Add(keys[i], remembered{a.device, nil, now.Add(lives)})
		c.byDevice[a.device.ID] = append(c.byDevice[a.device.ID], keys[i])
	}
}

// forgetDevice drops what is known of a device's good credentials.
func (c *cache) forgetDevice(device int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range slices.Clone(c.byDevice[device]) {
		c.good.Remove(key)
	}
	if len(c.news.devices) < maxNews {
		c.news.devices = append(c.news.devices, device)
	} else {
		c.news.everything = true
	}
}

// forgetRefusals drops all refusals.
func (c *cache) forgetRefusals() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused.Purge()
	c.news.refusals = true
}

// forgetAll drops everything.
func (c *cache) forgetAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.good.Purge()
	c.refused.Purge()
	c.news.everything = true
}

func (c *cache) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.good.Len()
}
