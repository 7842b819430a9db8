package door

import (
	"container/list"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Config is what a Door allows. A field that is 0 holds its default; one that is
// negative means no limit.
type Config struct {
	// Rate is the number of handshakes a second, from everywhere. Defaults to
	// 5,000.
	Rate int
	// AddressRate is the number of handshakes a second from one address. Defaults
	// to 500.
	AddressRate int
	// AddressFailures is the number of wrong credentials a second from one
	// address. Defaults to 10.
	AddressFailures int
	// AddressConnections is the number of connections that one address may hold.
	// Defaults to no limit: a whole fleet may stand behind one address.
	AddressConnections int
	// Unfinished is the number of connections that may be open and not have
	// brought their first frame; past it the oldest is closed. Defaults to 10,000.
	Unfinished int
	// AddressUnfinished is the same for one address. Defaults to 2,000.
	AddressUnfinished int
	// Addresses is the number of addresses whose rates are remembered, about 200
	// bytes each. Defaults to 65,536.
	Addresses int
	// Unlimited are addresses that what limits one address does not hold for.
	// Defaults to Loopback; an empty list means none.
	Unlimited []netip.Prefix
	// TrustedProxies are the addresses whose word is taken for where a request
	// came from. Defaults to none.
	TrustedProxies []netip.Prefix
	// ForwardedHeader is the header in which they say so. Defaults to none.
	ForwardedHeader Header
}

// WithDefaults fills in what is not set.
func (c Config) WithDefaults() Config {
	for _, field := range []struct {
		value    *int
		standard int
	}{
		{&c.Rate, 5000},
		{&c.AddressRate, 500},
		{&c.AddressFailures, 10},
		{&c.AddressConnections, -1},
		{&c.Unfinished, 10_000},
		{&c.AddressUnfinished, 2000},
		{&c.Addresses, 65_536},
	} {
		if *field.value == 0 {
			*field.value = field.standard
		}
	}
	if c.Unlimited == nil {
		c.Unlimited = Loopback
	}
	return c
}

// Validate names every field that can't be.
func (c Config) Validate() error {
	var faults []error
	for _, field := range []struct {
		name  string
		value int
	}{{"Rate", c.Rate}, {"AddressRate", c.AddressRate}, {"AddressFailures", c.AddressFailures}} {
		if field.value > 1_000_000_000 {
			faults = append(faults, fmt.Errorf("field Door.%s must be at most 1,000,000,000, not %d", field.name, field.value))
		}
	}
	if c.Addresses < 1 {
		faults = append(faults, fmt.Errorf("field Door.Addresses must be positive, not %d", c.Addresses))
	}
	if c.ForwardedHeader != NoHeader && len(c.TrustedProxies) == 0 {
		faults = append(faults, errors.New("field Door.ForwardedHeader needs Door.TrustedProxies"))
	}
	return errors.Join(faults...)
}

// rate turns a field into a Rate.
func rate(field int) Rate { return Rate(max(field, 0)) }

// Refusal says why somebody may not come in now.
type Refusal int

// The refusals.
const (
	Welcome            Refusal = iota
	Busy                       // too many handshakes a second, from everywhere
	AddressBusy                // too many handshakes a second from this address
	AddressConnections         // this address holds as many connections as it may
)

// Door is the state of what Config limits.
type Door struct {
	cfg Config
	now func() int64

	mu        sync.Mutex
	all       Bucket
	addresses *simplelru.LRU[netip.Addr, *habits]
	held      map[netip.Addr]int // connections by address, if they are limited

	visits    list.List                 // of *Visit, oldest first
	byAddress map[netip.Addr]*list.List // of *Visit, oldest first
	evicted   Evictions
}

// habits is what is remembered of an address.
type habits struct{ handshakes, failures Bucket }

// New makes a Door. now counts nanoseconds and never goes back. cfg must be
// valid, with its defaults filled in.
func New(cfg Config, now func() int64) *Door {
	d := &Door{cfg: cfg, now: now, held: make(map[netip.Addr]int), byAddress: make(map[netip.Addr]*list.List)}
	// The only error is a size below 1, which Validate rules out.
	d.addresses, _ = simplelru.NewLRU[netip.Addr, *habits](max(cfg.Addresses, 1), nil)
	return d
}

// limited tells whether what limits one address holds for this one.
func (d *Door) limited(address netip.Addr) bool {
	return address.IsValid() && !Within(address, d.cfg.Unlimited)
}

// habitsOf finds what is remembered of an address; d.mu is held.
func (d *Door) habitsOf(address netip.Addr) *habits {
	known, ok := d.addresses.Get(group(address))
	if !ok {
		known = &habits{}
		d.addresses.Add(group(address), known)
	}
	return known
}

// Handshake counts a handshake, or says why it is to be refused and how long to
// wait at least. What is refused does not count: an address that goes on knocking
// gets in at its rate all the same, and uses up nothing of the others'.
func (d *Door) Handshake(address netip.Addr) (Refusal, time.Duration) {
	now := d.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	var known *habits
	if d.limited(address) && d.cfg.AddressRate > 0 {
		known = d.habitsOf(address)
		before := known.handshakes
		if wait, ok := known.handshakes.Take(now, rate(d.cfg.AddressRate), 1); !ok {
			return AddressBusy, wait
		}
		if wait, ok := d.all.Take(now, rate(d.cfg.Rate), 1); !ok {
			known.handshakes = before
			return Busy, wait
		}
		return Welcome, 0
	}
	if wait, ok := d.all.Take(now, rate(d.cfg.Rate), 1); !ok {
		return Busy, wait
	}
	return Welcome, 0
}

// Failed counts a wrong credential.
func (d *Door) Failed(address netip.Addr) {
	if d.cfg.AddressFailures < 0 || !d.limited(address) {
		return
	}
	now := d.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	_, _ = d.habitsOf(address).failures.Take(now, rate(d.cfg.AddressFailures), 1)
}

// MayFail tells whether an address may try a credential that nobody knows to be
// good, and if not, how long to wait.
func (d *Door) MayFail(address netip.Addr) (wait time.Duration, ok bool) {
	if d.cfg.AddressFailures < 0 || !d.limited(address) {
		return 0, true
	}
	now := d.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	known, found := d.addresses.Get(group(address))
	if !found {
		return 0, true
	}
	failures := known.failures
	return failures.Take(now, rate(d.cfg.AddressFailures), 1)
}

// Hold counts a connection that the address holds until Release; false: it holds
// as many as it may.
func (d *Door) Hold(address netip.Addr) bool {
	if d.cfg.AddressConnections < 0 || !d.limited(address) {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held[group(address)] >= d.cfg.AddressConnections {
		return false
	}
	d.held[group(address)]++
	return true
}

// Release gives back what Hold granted.
func (d *Door) Release(address netip.Addr) {
	if d.cfg.AddressConnections < 0 || !d.limited(address) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held[group(address)]--; d.held[group(address)] <= 0 {
		delete(d.held, group(address))
	}
}

// Remembered is the number of addresses whose rates are remembered.
func (d *Door) Remembered() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.addresses.Len()
}
