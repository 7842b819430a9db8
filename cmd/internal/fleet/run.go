package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"mooring/wire"
)

// startPerSecond is how many devices are switched on per second: a server lets
// only so many handshakes in at a time.
const startPerSecond = 1000

// run is a run under way.
type run struct {
	cfg     Config
	plan    *Plan
	rates   rates
	layout  wire.Layout
	ledger  *ledgerWriter
	devices []*device
	started time.Time

	// Devices live as long as life; it ends after everything settled.
	life    context.Context
	calm    atomic.Bool    // nothing goes wrong any more
	booting sync.WaitGroup // reboots under way

	produced  atomic.Uint64
	acked     atomic.Uint64
	online    atomic.Int64
	reboots   atomic.Uint64
	refused   atomic.Uint64
	latencies [8]latencies
	tallies   tallies
	inputs    inputTallies

	reported      time.Time // the last report to OnProgress
	reportedAcked uint64
	measured      time.Duration // how long devices measured
	measuredAcked uint64
}

// Run simulates the fleet: devices measure for Config.For, or until ctx ends;
// then they stop, and Run waits up to Config.Settle until all they sent is
// acknowledged. It returns when every goroutine and connection has ended. The
// error is about the simulator itself; what the server did not do is in the
// Result.
func Run(ctx context.Context, cfg Config) (Result, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return Result{}, err
	}
	r, err := newRun(cfg)
	if err != nil {
		return Result{}, err
	}
	return r.all(ctx)
}

func newRun(cfg Config) (*run, error) {
	r := &run{
		cfg: cfg, rates: faultRates[cfg.Faults], started: time.Now(),
		plan: &Plan{
			Run:  rand.Uint32(), //nolint:gosec // tells runs apart, guards nothing
			Seed: cfg.Seed, Channels: cfg.Channels, Refusals: cfg.Refusals,
		},
	}
	r.layout = r.plan.Layout()
	r.reported = r.started
	for i := range r.latencies {
		r.latencies[i] = newLatencies()
	}
	ledger, err := newLedgerWriter(cfg.Ledger, &Header{
		Run: r.plan.Run, Seed: cfg.Seed, Channels: cfg.Channels, Refusals: r.plan.Refusals,
		Started: r.started.UTC().Format(time.RFC3339), URL: cfg.URL,
		Devices: len(cfg.Tokens), Rate: cfg.Rate, Rows: cfg.Rows, Faults: string(cfg.Faults),
	})
	if err != nil {
		return nil, err
	}
	r.ledger = ledger
	// Those that share a credential are boots of one device to the ledger, only at
	// the same time.
	for first := range cfg.Share {
		for index, token := range cfg.Tokens {
			d := newDevice(r, index, token)
			d.boots = first
			r.devices = append(r.devices, d)
		}
	}
	return r, nil
}

// all is the run from beginning to end.
func (r *run) all(ctx context.Context) (Result, error) {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	r.life = life
	err := r.measure(ctx)
	r.settle(ctx)
	end()
	for _, d := range r.devices {
		d.stop()
	}
	r.report(PhaseDone)
	return r.result(), errors.Join(err, r.ledger.close())
}

// measure is the part of the run in which devices make rows and break.
func (r *run) measure(ctx context.Context) error {
	if r.cfg.For > 0 {
		limited, cancel := context.WithTimeout(ctx, r.cfg.For)
		defer cancel()
		ctx = limited
	}
	var workers sync.WaitGroup
	fault := make(chan error, 1)
	workers.Go(func() {
		if err := r.switchOn(ctx); err != nil {
			fault <- err
		}
	})
	producers := min(len(r.devices), runtime.GOMAXPROCS(0), 4)
	for i := range producers {
		workers.Go(func() { r.produce(ctx, i, producers) })
	}
	for i := range r.intruders() {
		workers.Go(func() { r.intrude(ctx, i) })
	}
	r.watch(ctx, PhaseMeasuring)
	r.measured, r.measuredAcked = time.Since(r.started), r.acked.Load()
	r.calm.Store(true)
	workers.Wait()
	r.booting.Wait()
	select {
	case err := <-fault:
		return err
	default:
		return nil
	}
}

// switchOn boots the devices one after the other.
func (r *run) switchOn(ctx context.Context) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for i, d := range r.devices {
		if i%(startPerSecond/100) == 0 && i > 0 {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return nil
			}
		}
		if err := d.bootUp(); err != nil { //nolint:contextcheck // a device lives until the run ends, not until it stops measuring
			return fmt.Errorf("fleet: device %s: %w", d.token.Name, err)
		}
	}
	return nil
}

// settle waits until everything sent is acknowledged, or Config.Settle is over.
func (r *run) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Settle)
	defer cancel()
	watched, done := context.WithCancel(ctx)
	var waiter sync.WaitGroup
	waiter.Go(func() {
		defer done()
		if r.cfg.Share > 1 {
			r.switchOff(ctx)
			return
		}
		for _, d := range r.devices {
			if boot := d.current.Load(); boot != nil && boot.client.WaitAcked(ctx) != nil {
				return
			}
		}
	})
	r.watch(watched, PhaseSettling)
	waiter.Wait()
}

// switchOff ends devices that share a credential as soon as all they sent is
// acknowledged. Left on they would go on replacing those that still wait, whose
// waits grow with each connection that brought nothing.
func (r *run) switchOff(ctx context.Context) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		left := 0
		for _, d := range r.devices {
			switch boot := d.current.Load(); {
			case boot == nil:
			case boot.client.Stats().Rows > 0:
				left++
			default:
				d.current.Store(nil)
				d.end(boot)
			}
		}
		if left == 0 {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// watch writes the ledger and reports progress until ctx ends.
func (r *run) watch(ctx context.Context, phase Phase) {
	note := time.NewTicker(time.Second)
	defer note.Stop()
	report := time.NewTicker(r.cfg.ProgressEvery)
	defer report.Stop()
	for {
		select {
		case <-note.C:
			for _, d := range r.devices {
				d.note()
			}
			r.ledger.flush()
		case <-report.C:
			r.report(phase)
		case <-ctx.Done():
			return
		}
	}
}

// produce gives every devices-th device its rows when they are due.
func (r *run) produce(ctx context.Context, first, every int) {
	const tick = 5 * time.Millisecond
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	batch := make([]wire.Row, r.cfg.Rows)
	values := make([]wire.Value, 0, r.cfg.Rows*r.cfg.Channels)
	for {
		now := time.Now()
		for i := first; i < len(r.devices); i += every {
			r.devices[i].produce(now, batch, values) //nolint:contextcheck // likewise
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
