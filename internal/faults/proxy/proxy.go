package proxy

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"sync"
)

// Config sets a proxy up. Target is needed.
type Config struct {
	// Target is the server's address, dialled for each connection.
	Target string
	// Listen is the address to take connections at. Defaults to a free port of
	// 127.0.0.1.
	Listen string
	// Seed decides, with the connection's number, about everything random.
	Seed uint64
	// Plan says what happens to the n-th connection, from 0. It is called from one
	// goroutine. Defaults to nothing for all.
	Plan func(n int, random *rand.Rand) Plan
}

// Proxy is a running proxy. Its methods may be called from any goroutine.
type Proxy struct {
	cfg      Config
	listener net.Listener
	life     context.Context
	end      context.CancelFunc
	workers  sync.WaitGroup

	mu     sync.Mutex
	calm   bool
	conns  map[*conn]struct{}
	held   map[string][]*conn // by credential
	counts map[string]int
}

// Start listens; connections are taken until Close.
func Start(cfg Config) (*Proxy, error) {
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Plan == nil {
		cfg.Plan = func(int, *rand.Rand) Plan { return Plan{} }
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &Proxy{
		cfg: cfg, listener: listener,
		conns: make(map[*conn]struct{}), held: make(map[string][]*conn), counts: make(map[string]int),
	}
	p.life, p.end = context.WithCancel(context.Background())
	p.workers.Go(p.accept)
	return p, nil
}

// Addr is the address that devices connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Counts tells how often each fault has happened, by its name; "connections" is
// the number of all connections.
func (p *Proxy) Counts() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.counts)
}

// Calm ends all trouble: connections made from now on are sound, and those with
// a fault behind or before them are reset, so that their devices come back.
func (p *Proxy) Calm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calm = true
	for c := range p.conns {
		if c.plan != (Plan{}) {
			c.abort()
		}
	}
}

// Close ends everything and waits for it.
func (p *Proxy) Close() {
	p.end()
	_ = p.listener.Close()
	p.mu.Lock()
	for c := range p.conns {
		c.abort()
	}
	p.mu.Unlock()
	p.workers.Wait()
}

func (p *Proxy) accept() {
	for n := 0; ; n++ {
		device, err := p.listener.Accept()
		if err != nil {
			return
		}
		random := rand.New(rand.NewPCG(p.cfg.Seed, uint64(n))) //nolint:gosec // reproducible on purpose
		plan := p.cfg.Plan(n, random)
		c := newConn(p, device.(*net.TCPConn), plan)
		if !p.enter(c) {
			_ = device.Close()
			continue
		}
		seeds := [2]uint64{random.Uint64(), random.Uint64()}
		p.workers.Go(func() { c.run(seeds) })
	}
}

// enter takes a connection in, unless the proxy ends.
func (p *Proxy) enter(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life.Err() != nil {
		return false
	}
	if p.calm {
		c.plan = Plan{}
	}
	p.conns[c] = struct{}{}
	p.counts["connections"]++
	return true
}

func (p *Proxy) leave(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *Proxy) count(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[name]++
}

// hold notes that a connection holds bytes of this credential back.
func (p *Proxy) hold(credential string, c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held[credential] = append(p.held[credential], c)
}

// back has the bytes delivered that were held back of this credential: its
// device is back, on connection c, and was welcomed or not yet.
func (p *Proxy) back(credential string, c *conn, welcomed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	keep := p.held[credential][:0]
	for _, old := range p.held[credential] {
		if old == c || old.plan.HoldPast && !welcomed {
			keep = append(keep, old)
			continue
		}
		close(old.release)
	}
	p.held[credential] = keep
}
