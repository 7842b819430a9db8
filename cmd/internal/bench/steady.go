package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// paced is a device that sends at given times, and knows when it sent what is
// not yet acknowledged.
type paced struct {
	*device
	mu    sync.Mutex  // held for sending, too
	times []time.Time // of unacknowledged frames
}

// steady: a given rate of all devices together; how late acks are.
func (b *bench) steady(ctx context.Context) (s Scenario, err error) {
	b.say("steady: commits of one row, nothing else running")
	if _, err := b.layout(ctx, oneRow.channels); err != nil {
		return s, err
	}
	if err := b.fresh(ctx); err != nil {
		return s, err
	}
	lone, err := b.loneCommit(ctx)
	if err != nil {
		return s, err
	}
	b.say("steady: %d devices, %d rows/s", b.cfg.SteadyDevices, b.cfg.SteadyRate)
	if err := b.fresh(ctx); err != nil {
		return s, err
	}
	fleet, err := b.devices(ctx, b.cfg.SteadyDevices, now())
	if err != nil {
		return s, err
	}
	server, err := b.server(ctx)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	l := &load{template: newTemplate(tenRows), fleet: fleet}
	if err := connect(ctx, fleet, server.address, introduction(tenRows)); err != nil {
		return s, errors.Join(err, l.end())
	}
	p := &pacer{load: l, latency: newLatency()}
	p.start(b.cfg.SteadyRate)
	if err := l.warm(ctx, b.warm); err != nil {
		p.stop()
		return s, errors.Join(err, l.end())
	}
	p.measuring.Store(true)
	o, err := b.watch(ctx, server, l, "steady")
	p.stop()
	if err := errors.Join(err, l.end()); err != nil {
		return s, err
	}
	quantile := func(q float64) float64 { return float64(p.latency.ValueAtQuantile(q)) / 1000 }
	s.addAgainst("rows_per_s", o.rowsPerSecond(), "asked_rows_per_s")
	s.add("asked_rows_per_s", float64(b.cfg.SteadyRate))
	s.Figures = append(s.Figures,
		Figure{Name: "ack_p50_ms", Value: quantile(50), Against: "lone_commit_ms", Wanted: atMost(5)},
		Figure{Name: "ack_p99_ms", Value: quantile(99), Against: "lone_commit_ms", Wanted: atMost(50)})
	s.addAgainst("ack_p999_ms", quantile(99.9), "lone_commit_ms")
	s.add("lone_commit_ms", float64(lone.Microseconds())/1000)
	s.add("late_frames", float64(p.late))
	o.addTo(&s)
	s.note("%d devices, frames of %d rows; from before a frame is written until its ack is read, the generator's own delays included; late_frames: not sent on time because the window was full", b.cfg.SteadyDevices, tenRows.rows)
	return s, nil
}

// pacer sends the frames of a load on time.
type pacer struct {
	load    *load
	fleet   []*paced
	quit    chan struct{}
	running sync.WaitGroup
	// measuring is false while it warms up.
	measuring atomic.Bool

	mu      sync.Mutex
	latency *hdrhistogram.Histogram // µs
	late    int
}

// pacerTick is how often frames are sent: each device in the tick that is its.
const pacerTick = time.Millisecond

// pacerEnd is how long devices wait for their last acks, whose latency must not be
// left out.
const pacerEnd = 10 * time.Second

// steadyWindow is the server's default.
const steadyWindow = 16

func (p *pacer) start(rate int) {
	p.quit = make(chan struct{})
	p.fleet = make([]*paced, len(p.load.fleet))
	for i, d := range p.load.fleet {
		p.fleet[i] = &paced{device: d}
		p.load.running.Go(func() { p.read(p.fleet[i]) })
	}
	p.running.Go(func() { p.send(p.fleet, float64(rate)/float64(p.load.template.rows)) })
}

// restart gives the latencies of acks since it was last called, or since start.
func (p *pacer) restart() *hdrhistogram.Histogram {
	p.measuring.Store(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	latency := p.latency
	p.latency = newLatency()
	return latency
}

func newLatency() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, time.Minute.Microseconds(), 3)
}

func (p *pacer) stop() {
	close(p.quit)
	p.running.Wait()
	p.load.ending.Store(true)
	for _, d := range p.fleet {
		// Readers that have nothing to wait for wait for nothing.
		until := time.Now()
		d.mu.Lock()
		if len(d.times) > 0 {
			until = until.Add(pacerEnd)
		}
		d.mu.Unlock()
		_ = d.conn.SetReadDeadline(until)
	}
}

// send sends frames a second, device after device.
func (p *pacer) send(fleet []*paced, frames float64) {
	ticker := time.NewTicker(pacerTick)
	defer ticker.Stop()
	begun := time.Now()
	next, count := 0, 0.0
	for {
		select {
		case <-p.quit:
			return
		case <-ticker.C:
		}
		for due := time.Since(begun).Seconds() * frames; count < due; count++ {
			p.one(fleet[next])
			next = (next + 1) % len(fleet)
		}
	}
}

func (p *pacer) one(d *paced) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.times) >= steadyWindow {
		p.mu.Lock()
		p.late++
		p.mu.Unlock()
		return
	}
	d.times = append(d.times, time.Now())
	if err := d.sendFrames(p.load.template, 1); err != nil {
		p.load.fail(err)
	}
}

// read takes acks until the end.
func (p *pacer) read(d *paced) {
	for {
		acked, err := d.next()
		now := time.Now()
		if err != nil {
			d.mu.Lock()
			left := len(d.times)
			d.mu.Unlock()
			if left > 0 {
				err = fmt.Errorf("%d frames were never acknowledged: %w", left, err)
			}
			if left > 0 || !p.load.ending.Load() {
				p.load.fail(err)
			}
			return
		}
		p.load.acked.Add(acked)
		measuring := p.measuring.Load()
		d.mu.Lock()
		if acked > 0 && d.acked == acked {
			p.load.begun.Add(1)
		}
		frames := min(int(acked)/p.load.template.rows, len(d.times))
		p.mu.Lock()
		for _, at := range d.times[:frames] {
			if measuring {
				_ = p.latency.RecordValue(max(1, now.Sub(at).Microseconds())) // over a minute: it is broken anyway
			}
		}
		p.mu.Unlock()
		d.times = append(d.times[:0], d.times[frames:]...)
		finished := p.load.ending.Load() && len(d.times) == 0
		d.mu.Unlock()
		if finished {
			return
		}
	}
}
