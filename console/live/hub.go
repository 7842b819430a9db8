package live

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"mooring/devices"
	"mooring/storage"
)

const (
	foldEvery   = 250 * time.Millisecond // while nobody looks more often than once a second
	foldQuickly = 50 * time.Millisecond
	figureEvery = time.Second
	// remoteFor is how long after a device was last seen at another server it is
	// asked of the database.
	remoteFor = 30 * time.Second
)

// Hub knows what is watched and who watches.
type Hub struct {
	cfg     Config
	metrics *metrics
	epoch   string // of cursors: this run

	mu         sync.RWMutex
	change     uint64 // number of the last change
	entries    map[int32]*entry
	selections map[string]*selection
	values     int    // slots of all entries
	crowded    uint64 // channels that found no room
	layouts    map[int32][]storage.LayoutChannel
	later      map[[2]int32]*storage.News // of layouts to be asked for
	ring       ring
	figures    []byte // fields of the message
	figured    uint64 // how often they were taken
	fleet      struct{ all, online int }
	renew      bool          // ask who fits the filters soon
	open       int           // viewers, those on their way in included
	ofUser     map[int32]int // of open, by user
	fast       int           // viewers that look more often than once a second
	viewers    map[*viewer]struct{}
	active     bool
	ended      bool

	loading      chan struct{} // a token: who has it asks the database for values
	ask          chan struct{} // capacity 1, as the following
	wake         chan struct{}
	wakeAsk      chan struct{}
	wakeCommands chan struct{}
	wakePresence chan struct{}
	awakeFor     context.Context    // of h.mu: ends when nobody watches any more
	sleep        context.CancelFunc // ends it

	patience time.Duration // of Stop
	stopping chan struct{}
	stop     context.CancelFunc
	life     context.Context
	running  sync.WaitGroup
	watching sync.WaitGroup // viewers' goroutines
}

// New makes a hub.
func New(cfg Config) (*Hub, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	h := &Hub{
		cfg: cfg, epoch: hex.EncodeToString(random[:]), change: 1,
		entries: make(map[int32]*entry), selections: make(map[string]*selection),
		layouts: make(map[int32][]storage.LayoutChannel), later: make(map[[2]int32]*storage.News),
		viewers: make(map[*viewer]struct{}), ofUser: make(map[int32]int),
		loading: make(chan struct{}, 1), ask: make(chan struct{}, 1),
		wake: make(chan struct{}, 1), wakeAsk: make(chan struct{}, 1), wakeCommands: make(chan struct{}, 1), wakePresence: make(chan struct{}, 1),
		patience: 2 * time.Second, stopping: make(chan struct{}),
	}
	if h.metrics, err = newMetrics(cfg.Registerer, h); err != nil {
		return nil, fmt.Errorf("live: register metrics: %w", err)
	}
	h.life, h.stop = context.WithCancel(context.Background())
	return h, nil
}

// Start starts the hub's goroutines. Only Stop ends them.
func (h *Hub) Start() {
	h.running.Go(h.run)
	h.running.Go(h.askDatabase)
	h.running.Go(h.followCommands)
	h.running.Go(h.followPresence)
}

// Stop tells viewers that the server stops, closes their connections, at the
// latest when ctx ends or after two seconds, and waits for everything. It is
// idempotent.
func (h *Hub) Stop(ctx context.Context) error {
	h.mu.Lock()
	if h.ended {
		h.mu.Unlock()
		return nil
	}
	h.ended = true
	h.mu.Unlock()
	close(h.stopping)
	gone := make(chan struct{})
	go func() {
		h.watching.Wait()
		close(gone)
	}()
	patience := time.NewTimer(h.patience)
	defer patience.Stop()
	select {
	case <-gone:
	case <-patience.C:
	case <-ctx.Done():
	}
	h.mu.RLock()
	for v := range h.viewers {
		v.transport.abort()
	}
	h.mu.RUnlock()
	h.stop() // also what waits for the database ends now
	<-gone
	h.running.Wait()
	h.cfg.Committed.Watch(nil)
	return nil
}

// awake starts the work that watching is. h.mu is held.
func (h *Hub) awake() {
	h.active = true
	h.awakeFor, h.sleep = context.WithCancel(h.life)
	signal(h.wake)
	signal(h.wakeAsk)
	signal(h.wakeCommands)
	signal(h.wakePresence)
}

// asleep ends it. h.mu is held.
func (h *Hub) asleep() {
	h.active = false
	h.sleep()
}

func (h *Hub) isActive() bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.active
}

// rest waits until the hub is active; false: it ends.
func (h *Hub) rest(wake <-chan struct{}) bool {
	for !h.isActive() {
		select {
		case <-wake:
		case <-h.life.Done():
			return false
		}
	}
	return h.life.Err() == nil
}

// run folds what is committed into the table, and takes figures.
func (h *Hub) run() {
	var taken time.Time
	var last Figures
	var rejected []uint64 // one a second, of the last minute
	for h.rest(h.wake) {
		h.mu.RLock()
		pace := foldEvery
		if h.fast > 0 {
			pace = foldQuickly
		}
		h.mu.RUnlock()
		if !h.pause(pace) {
			return
		}
		begun := time.Now()
		h.fold()
		h.metrics.folding.Add(time.Since(begun).Seconds())
		if since := begun.Sub(taken); since >= figureEvery {
			now := h.cfg.Figures()
			if since > 5*figureEvery { // nobody looked
				last, rejected, since = now, nil, figureEvery
			}
			rejected = append(rejected, now.RowsRejected)
			if len(rejected) > 60 {
				rejected = rejected[1:]
			}
			rate := float64(now.RowsCommitted-last.RowsCommitted) / since.Seconds()
			h.setFigures(&now, begun, rate, now.RowsRejected-rejected[0])
			taken, last = begun, now
			h.forget(begun)
		}
	}
}

// pause waits; false: the hub ends.
func (h *Hub) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-h.life.Done():
		return false
	}
}

// followCommands puts commands into the ring as they change.
func (h *Hub) followCommands() {
	listened := false
	h.follow(h.wakeCommands, "commands", func(ctx context.Context) (bool, error) {
		if listened {
			h.missedCommands()
		}
		listened = false
		err := h.cfg.Devices.FollowCommands(ctx, func() { listened = true }, h.commandsChanged)
		worked := listened
		if ctx.Err() != nil {
			listened = false // at rest: nobody is there who could miss anything
		}
		return worked, err
	})
}

// followPresence brings into the table who comes and goes.
func (h *Hub) followPresence() {
	h.follow(h.wakePresence, "presence", func(ctx context.Context) (synced bool, err error) {
		err = h.cfg.Devices.FollowPresence(ctx, func() { synced = true }, h.presenceChanged)
		return synced, err
	})
}

// follow follows something while the hub is active, again and again if that
// fails; once says whether it came to it.
func (h *Hub) follow(wake <-chan struct{}, what string, once func(context.Context) (bool, error)) {
	const least, most = 100 * time.Millisecond, 5 * time.Second
	retry := least
	for h.rest(wake) {
		h.mu.RLock()
		ctx := h.awakeFor
		h.mu.RUnlock()
		worked, err := once(ctx)
		if ctx.Err() != nil {
			continue
		}
		if worked {
			retry = least
		}
		h.cfg.Logger.Warn("viewers miss news; trying again", "of", what, "error", err, "in", retry)
		if !h.pause(retry) {
			return
		}
		retry = min(2*retry, most)
	}
}

func (h *Hub) commandsChanged(list []devices.Command) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.change++
	for i := range list {
		encoded, err := h.cfg.Command(list[i])
		if err != nil {
			h.cfg.Logger.Warn("a command can't be shown", "command", list[i].ID, "error", err)
			continue
		}
		h.ring.push(event{
			change: h.change, kind: eventCommands, device: list[i].Device, name: "command",
			fields: append([]byte(`,"command":`), encoded...),
		})
	}
}

// missedCommands tells viewers that news of commands may lack.
func (h *Hub) missedCommands() {
	h.metrics.skipped.WithLabelValues("commands").Inc()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.change++
	h.ring.push(event{change: h.change, kind: eventCommands, name: "skipped", fields: []byte(`,"what":"commands","count":0`)})
}

// setFigures encodes the figures for viewers. Devices are counted elsewhere.
func (h *Hub) setFigures(f *Figures, at time.Time, rate float64, refused uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	dst := h.figures[:0]
	dst = append(dst, `,"time":`...)
	dst = appendTime(dst, at)
	dst = append(dst, `,"gateway":`...)
	dst = appendText(dst, h.cfg.Gateway)
	dst = fmt.Appendf(dst, `,"devices":%d,"online":%d,"rows_per_s":`, h.fleet.all, h.fleet.online)
	dst = appendNumber(dst, math.Round(rate*10)/10)
	for _, ack := range []struct {
		name  string
		value time.Duration
	}{{"ack_p50_ms", f.AckP50}, {"ack_p99_ms", f.AckP99}} {
		dst = fmt.Appendf(dst, `,%q:`, ack.name)
		if ack.value == 0 {
			dst = append(dst, "null"...)
			continue
		}
		dst = appendNumber(dst, float64(ack.value.Microseconds())/1000)
	}
	dst = fmt.Appendf(dst, `,"waiting_bytes":%d,"refusals_per_min":%d`, f.BytesWaiting, refused)
	h.figures = dst
	h.figured++
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

var errStopping = errors.New("the server stops")
