package ingest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"

	"mooring/ingest/door"
	"mooring/wire"
)

// Errors of SendCommand.
var (
	ErrNotConnected = errors.New("the device is not connected")
	ErrOutboxFull   = errors.New("too much waits to be sent to the device")
	ErrTooLarge     = errors.New("the device takes no message of that size")
)

// The states of a gateway, in order.
const (
	stateNew int32 = iota
	stateRunning
	stateStopping
)

// Gateway is the WebSocket endpoint and everything behind it up to the store.
// It is an http.Handler; see NewServer for the server around it.
type Gateway struct {
	cfg   Config
	auth  Authenticator
	log   SessionLog
	store RowStore

	clock          clock
	door           *door.Door
	debtors        *debtors
	hub            *hub
	shards         []*shard
	metrics        *metrics
	latency        latencies
	unrecorded     complaint // of sessions that could not be put on record
	unchecked      complaint // credentials that could not be checked
	unresolved     complaint // layouts that the store could not be asked for
	maxOutstanding uint64    // DATA frames a device may have unacknowledged

	upgrader, plainUpgrader *gws.Upgrader
	handshakes              chan struct{} // one token a credential being asked for
	decoders, scratches     sync.Pool
	readers                 sync.Pool // of *bufio.Reader, gws's
	bursts                  sync.Pool // of *burst
	layouts                 layoutTable

	life     context.Context // of sessions
	lifeEnd  context.CancelFunc
	writes   context.Context // of writes
	writeEnd context.CancelFunc

	state       atomic.Int32
	connections atomic.Int64 // handshakes under way included
	resting     atomic.Int64 // of them
	bursting    atomic.Int64 // of them: handle a burst
	sweeping    atomic.Int64 // nanoseconds the timers took so far
	gate        sync.Mutex   // orders enter and Stop
	sessions    sync.WaitGroup
	flushers    sync.WaitGroup
	writers     sync.WaitGroup
	timersDone  sync.WaitGroup
	timersEnd   chan struct{}
	stopped     chan struct{}
	stopErr     error
}

// New makes a gateway. The error names every field of cfg that can't be.
func New(cfg Config, auth Authenticator, log SessionLog, store RowStore) (*Gateway, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if auth == nil || log == nil || store == nil {
		return nil, errors.New("ingest: an Authenticator, a SessionLog and a RowStore are needed")
	}
	g := &Gateway{
		cfg: cfg, auth: auth, log: log, store: store,
		clock:      newClock(),
		handshakes: make(chan struct{}, cfg.MaxHandshakes),
		// PROTOCOL §8.2: devices may send 4 frames before WELCOME tells the window,
		// and a shrunken window crosses frames on their way.
		maxOutstanding: uint64(max(cfg.Window, 4)),
		timersEnd:      make(chan struct{}),
		stopped:        make(chan struct{}),
	}
	g.hub = newHub(g.clock)
	g.debtors = newDebtors()
	g.door = door.New(cfg.Door, g.clock.now)
	g.upgrader = newUpgrader(&g.cfg, wire.Subprotocol)
	g.plainUpgrader = newUpgrader(&g.cfg)
	g.bursts.New = newBurst
	g.readers.New = func() any { return bufio.NewReaderSize(nil, cfg.ReadBuffer) }
	g.decoders.New = func() any { return g.newDecoder() }
	g.scratches.New = func() any { return &dataScratch{decoder: g.newDecoder()} }
	g.metrics = newMetrics()
	for i := range cfg.Writers {
		g.shards = append(g.shards, newShard(i, &g.cfg, store, g.metrics))
	}
	if err := g.metrics.register(cfg.Registerer, g); err != nil {
		return nil, fmt.Errorf("ingest: register metrics: %w", err)
	}
	return g, nil
}

func (g *Gateway) newDecoder() *wire.Decoder { return wire.NewDecoder(wire.Limits{}) }

// Start starts the writers and timers; handshakes are taken from now on. Values
// of ctx reach the store and the logs; its end does nothing: only Stop stops,
// because only Stop drains.
func (g *Gateway) Start(ctx context.Context) error {
	g.gate.Lock()
	defer g.gate.Unlock()
	if g.state.Load() != stateNew {
		return errors.New("ingest: the gateway was started before")
	}
	ctx = context.WithoutCancel(ctx)
	g.life, g.lifeEnd = context.WithCancel(ctx)
	g.writes, g.writeEnd = context.WithCancel(ctx)
	for _, sh := range g.shards {
		g.writers.Go(func() { sh.run(g.writes) })
	}
	g.timersDone.Go(g.timers)
	g.state.Store(stateRunning) // last: handshakes may be waiting for it
	return nil
}

// enter counts a session's goroutine and puts the session in the hub, unless Stop
// has begun.
func (g *Gateway) enter(s *session) bool {
	g.gate.Lock()
	defer g.gate.Unlock()
	if g.state.Load() != stateRunning {
		return false
	}
	g.sessions.Add(1)
	g.hub.add(s) // behind the gate, so that Stop sees it
	return true
}

// DropDevice ends the sessions of a device at once, for a revoked token (all of
// them for tokenID 0), with CloseUnauthenticated or CloseDisabled, say. It also
// catches handshakes that were checked before and arrive later. It returns the
// number of sessions ended and never blocks.
func (g *Gateway) DropDevice(deviceID int32, tokenID int64, code wire.CloseCode) int {
	return g.hub.drop(deviceID, tokenID, code)
}

// DropCertificate ends the sessions of a device that showed the certificate with
// this serial number, as DropDevice does for a token.
func (g *Gateway) DropCertificate(deviceID int32, serial string, code wire.CloseCode) int {
	return g.hub.dropMatching(revocation{device: deviceID, serial: serial, code: code})
}

// Replace ends the device's session with this number, with CloseReplaced: a newer one
// of the device is open on another gateway. What has no such session is left alone.
// It never blocks.
func (g *Gateway) Replace(deviceID int32, session int64) {
	g.hub.replace(deviceID, session)
}

// SendCommand queues a command for a connected device; that it was queued says
// nothing of its arrival. Errors: ErrNotConnected, ErrOutboxFull, ErrTooLarge.
func (g *Gateway) SendCommand(deviceID int32, command wire.Command) error {
	s := g.hub.current(deviceID)
	if s == nil {
		return ErrNotConnected
	}
	return s.tryEnqueue(func(encoder *wire.Encoder) []byte { return encoder.Command(command) })
}

// Stats is a snapshot for a live display. Counts are totals since the start.
type Stats struct {
	Connections   int
	Resting       int // connections that are silent and hold little memory
	Blocked       int // sessions that wait for room
	Frames        uint64
	RowsIn        uint64 // decoded, refused ones included
	RowsCommitted uint64
	RowsDuplicate uint64
	RowsRejected  uint64 // whole rows
	RowsLost      uint64 // given up by devices
	RowsWaiting   uint64 // received, not yet settled
	RowsReturned  uint64 // received, and given up unsettled when the server stopped
	BytesWaiting  int    // received, not yet committed
	// AckP50 and AckP99 are times from a frame's receipt to the writing of its
	// ACK, over the last 10 to 20 s; 0: none. They are upper bounds, 12 % wide.
	AckP50, AckP99 time.Duration
}

// Unaccounted is how many rows were received of which the books don't say what
// became of them, or more than one thing. It is 0 at any moment.
func (s *Stats) Unaccounted() int64 {
	return int64(s.RowsIn - s.RowsCommitted - s.RowsDuplicate - s.RowsRejected - s.RowsWaiting - s.RowsReturned)
}

// Stats takes a snapshot. It is cheap.
func (g *Gateway) Stats() Stats {
	stats := Stats{Connections: int(g.connections.Load()), Resting: int(g.resting.Load())}
	for _, sh := range g.shards {
		sh.mu.Lock()
		counts := sh.counts
		stats.BytesWaiting += len(sh.gathering.rows) + sh.writing
		stats.Blocked += len(sh.waiters)
		sh.mu.Unlock()
		stats.Frames += counts.frames
		stats.RowsIn += counts.rowsIn
		stats.RowsCommitted += counts.committed
		stats.RowsDuplicate += counts.duplicate
		stats.RowsRejected += counts.rowsRefused + counts.poisoned
		stats.RowsLost += counts.rowsLost
		stats.RowsWaiting += counts.waiting
		stats.RowsReturned += counts.returned
	}
	stats.AckP50 = g.latency.quantile(0.50)
	stats.AckP99 = g.latency.quantile(0.99)
	return stats
}
