package fleet

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"mooring/client"
	"mooring/wire"
)

// device is one simulated device: a credential and the boot it is in.
type device struct {
	run    *run
	index  int
	token  Credential
	period int64 // µs between rows
	coarse int64 // ms
	phase  int64 // µs by which its rows are due earlier than another's

	// current is the boot under way; nil before the first and during a reboot.
	current atomic.Pointer[liveBoot]
	boots   int           // so far; owned by whoever boots
	dials   atomic.Uint64 // so far
	asked   atomic.Int64  // the period that a command asked for, µs; 0: none did

	mu sync.Mutex // orders a boot's lines in the ledger
}

// liveBoot is a boot under way.
type liveBoot struct {
	Boot

	device *device
	client *client.Client
	cancel context.CancelFunc
	done   chan struct{} // closed when the client has ended
	born   time.Time
	until  time.Time // when it reboots; zero: never

	restart   atomic.Bool // a command asks it to reboot
	restartAt time.Time   // when it does, once that is answered; the producer's

	next   uint64 // the producer's
	sent   atomic.Uint64
	acked  atomic.Uint64
	online bool // the client's Run's

	mu      sync.Mutex
	refused [][4]int64
	dropped [][2]uint64
	noted   stateLine
}

// Residues of base times keep the rows of two boots, and of two runs, apart:
// with leaps of whole cycles, equal sequence numbers never have equal times.
const (
	cycle      = 8192 // ms
	bootsApart = 64
	// Of devices that share a credential, further ones are hours behind.
	sharersApart = 1024 * cycle
)

func newDevice(r *run, index int, token Credential) *device {
	d := &device{run: r, index: index, token: token, period: 100, coarse: 1}
	if r.cfg.Rate > 0 {
		d.period = max(int64(len(r.cfg.Tokens)*r.cfg.Share)*1_000_000/int64(r.cfg.Rate), 1)
	}
	random := d.random(0)
	d.phase = random.Int64N(d.period * int64(r.cfg.Rows))
	if random.Float64() < r.rates.coarse {
		d.coarse = 1000
	}
	return d
}

// random is a source of the device's own that the seed decides, one for each
// purpose.
func (d *device) random(purpose uint64) *rand.Rand {
	return rand.New(rand.NewPCG(d.run.cfg.Seed, mix(uint64(d.index)+1)^purpose)) //nolint:gosec // reproducible on purpose
}

// Purposes of random sources; the number of the boot or dial is added.
const (
	purposeBoot = 1 << 32
	purposeDial = 2 << 32
)

// bootUp starts the next boot.
func (d *device) bootUp() error {
	r := d.run
	random := d.random(purposeBoot + uint64(d.boots))
	if period := d.asked.Load(); period != 0 {
		d.period = period
	}
	boot := &liveBoot{
		Boot: Boot{
			Device: d.token.Name, Index: d.index, Number: d.boots,
			BootID: rand.Uint32() | 1, //nolint:gosec // tells boots apart, guards nothing
			Base:   time.Now().UnixMilli(), Period: d.period, Coarse: d.coarse,
		},
		device: d, born: time.Now(), done: make(chan struct{}),
	}
	d.boots++
	if !r.cfg.Clock.IsZero() {
		boot.setClock(r.cfg.Clock)
	}
	if r.cfg.Share > 1 {
		boot.Base = d.base(boot.Base, boot.Number) - sharersApart*int64(boot.Number/bootsApart)
	}
	if r.cfg.Faults != FaultsNone {
		boot.Base = d.base(boot.Base, boot.Number)
		boot.leap(random, r.rates.jumps)
		boot.until = boot.born.Add(spread(random, r.rates.reboot))
	}
	cfg := client.Config{
		URL: r.cfg.URL, Token: d.token.Token, BootID: boot.BootID, Model: LayoutName, Firmware: "simulated",
		BufferRows: d.bufferRows(), BufferBytes: 1 << 30, FrameRows: r.cfg.Rows,
		Dial: d.dial, TLS: r.cfg.TLS, Logger: r.cfg.Logger,
		Backoff:  func(retry client.Retry) time.Duration { return scale(retry.Wait(), r.cfg.BackoffScale) },
		OnAck:    boot.onAck,
		OnReject: boot.onReject,
		OnEvent:  boot.onEvent,

		OnCommand: boot.onCommand,
	}
	if r.cfg.Faults != FaultsNone {
		cfg.Heartbeat = 5 * time.Second // half-open links are found in ten seconds
	}
	var err error
	if boot.client, err = client.New(cfg); err != nil {
		return err
	}
	if _, err = boot.client.Layout(r.layout.Name, r.layout.Channels); err != nil {
		return err
	}
	r.ledger.write(bootLine{Kind: "boot", Boot: boot.Boot})
	r.ledger.flush()
	ctx, cancel := context.WithCancel(r.life)
	boot.cancel = cancel
	go func() {
		defer close(boot.done)
		_ = boot.client.Run(ctx) // it ends with ctx, and says nothing else
	}()
	d.current.Store(boot)
	return nil
}

// base is the base time of a boot that begins now: a little before, and apart
// from those of other boots and runs.
func (d *device) base(now int64, number int) int64 {
	residue := int64(d.run.plan.Run%(cycle/bootsApart))*bootsApart + int64(number%bootsApart)
	base := now + residue - now%cycle
	if base > now {
		base -= cycle
	}
	return base
}

// setClock makes the boot's clock wrong, by so much that no row is taken.
func (b *liveBoot) setClock(clock time.Time) {
	b.Off = wire.CodeTimeFuture
	if clock.UnixMilli() < b.Base {
		b.Off = wire.CodeTimePast
	}
	b.Base = clock.UnixMilli()
}

// leap plans the leaps of the boot's clock: whole cycles, up to 2 minutes.
func (b *liveBoot) leap(random *rand.Rand, most int) {
	if most == 0 {
		return
	}
	perSecond := max(1_000_000/b.Period, 1)
	from := uint64(0)
	for range random.IntN(most + 1) {
		from += 1 + uint64(random.Int64N(10*perSecond))
		b.Jumps = append(b.Jumps, Jump{From: from, Offset: cycle * int64(random.IntN(31)-15)})
	}
}

// spread is a time around a mean.
func spread(random *rand.Rand, mean time.Duration) time.Duration {
	return time.Duration(float64(mean) * (0.1 + 1.8*random.Float64()))
}

func scale(wait time.Duration, by float64) time.Duration {
	return time.Duration(float64(wait) * by)
}

// bufferRows is what a device holds: some windows of frames, and what it makes
// in Config.Buffer. While the buffer is full, it makes no more.
func (d *device) bufferRows() int {
	rows := 64 * int64(d.run.cfg.Rows)
	if d.run.cfg.Rate > 0 {
		rows = min(max(rows, d.run.cfg.Buffer.Microseconds()/d.period), 1_000_000)
	}
	return int(rows)
}

// produce appends the rows that are due, whole frames of them.
func (d *device) produce(now time.Time, batch []wire.Row, values []wire.Value) {
	boot := d.current.Load()
	if boot == nil {
		return
	}
	if boot.over(now) && d.boots < maxBoots && !d.run.calm.Load() {
		d.current.Store(nil)
		d.run.booting.Go(func() { d.reboot(boot) })
		return
	}
	plan, rows := d.run.plan, uint64(len(batch))
	due := uint64(1) << 62
	if d.run.cfg.Rate > 0 {
		due = uint64((now.Sub(boot.born).Microseconds() + d.phase) / d.period)
	}
	for boot.next+rows <= due {
		values = values[:0]
		for i := range batch {
			seq := boot.next + uint64(i)
			from := len(values)
			values = plan.AppendSent(values, &boot.Boot, seq)
			batch[i] = wire.Row{Time: 1000 * plan.Time(&boot.Boot, seq), Values: values[from:]}
		}
		// Before the rows can leave, so that the ledger never falls behind.
		boot.sent.Store(boot.next + rows)
		if _, err := boot.client.AppendBatch(0, batch); err != nil {
			boot.sent.Store(boot.next) // the buffer is full: later
			return
		}
		boot.next += rows
		d.run.produced.Add(rows)
	}
}

// reboot ends the boot without waiting for what it sent, and starts the next.
func (d *device) reboot(boot *liveBoot) {
	d.end(boot)
	d.run.reboots.Add(1)
	if err := d.bootUp(); err != nil {
		d.run.cfg.Logger.Error("a device does not boot", "device", d.token.Name, "error", err)
	}
}

// end stops the boot's client and notes how far it got.
func (d *device) end(boot *liveBoot) {
	boot.cancel()
	<-boot.done
	if boot.online {
		boot.online = false
		d.run.online.Add(-1)
	}
	stats := boot.client.Stats()
	d.run.tallies.client(&stats)
	d.write(boot, true)
}

// stop ends the device for good.
func (d *device) stop() {
	if boot := d.current.Load(); boot != nil {
		d.end(boot)
	}
}

// note writes how far the current boot got, if it got further.
func (d *device) note() {
	if boot := d.current.Load(); boot != nil {
		d.write(boot, false)
	}
}

func (d *device) write(boot *liveBoot, end bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if boot.noted.End {
		return
	}
	boot.mu.Lock()
	// Acked first: it never passes Sent.
	line := stateLine{
		Kind: "state", Index: d.index, Boot: boot.Number,
		Acked: boot.acked.Load(), Refused: boot.refused, Dropped: boot.dropped, End: end,
	}
	boot.refused, boot.dropped = nil, nil
	boot.mu.Unlock()
	line.Sent = boot.sent.Load()
	if !end && line.Sent == boot.noted.Sent && line.Acked == boot.noted.Acked && line.Refused == nil && line.Dropped == nil {
		return
	}
	boot.noted = line
	d.run.ledger.write(line)
}

// dial opens a connection, with a fault in its future if the seed says so.
func (d *device) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil || d.run.cfg.Faults == FaultsNone {
		return conn, err
	}
	random := d.random(purposeDial + d.dials.Add(1))
	if d.run.calm.Load() || random.Float64() >= d.run.rates.faulty {
		return conn, nil
	}
	// Half-open links are rarer: each keeps a device away for two heartbeats.
	faults := [...]linkFault{linkCut, linkCut, linkCut, linkTrickle, linkTrickle, linkTrickle, linkSlow, linkSlow, linkSlow, linkHalfOpen}
	fault := faults[random.IntN(len(faults))]
	at := time.Now().Add(spread(random, d.run.rates.link))
	return newFaultyConn(conn, fault, at, &d.run.calm, d.run.tallies.link), nil
}

func (b *liveBoot) onAck(ack client.Ack) {
	r := b.device.run
	r.acked.Add(ack.Next - b.acked.Swap(ack.Next))
	r.latencies[b.Index%len(r.latencies)].record(ack.Latencies)
}

func (b *liveBoot) onReject(reject wire.Reject) {
	b.device.run.refused.Add(reject.N)
	b.mu.Lock()
	b.refused = append(b.refused, [4]int64{int64(reject.Seq), int64(reject.N), int64(reject.Channel), int64(reject.Code)})
	b.mu.Unlock()
}

func (b *liveBoot) onEvent(event client.Event) {
	r := b.device.run
	switch event.Kind {
	case client.EventConnected:
		b.online = true
		r.online.Add(1)
		if r.cfg.Faults != FaultsNone {
			// What is sent again is grouped otherwise than before.
			b.client.SetFrameRows(1 + rand.IntN(2*r.cfg.Rows)) //nolint:gosec // guards nothing
		}
	case client.EventDisconnected:
		if b.online {
			b.online = false
			r.online.Add(-1)
		}
		r.tallies.disconnected(event)
	case client.EventDropped:
		b.mu.Lock()
		b.dropped = append(b.dropped, [2]uint64{event.Seq, event.N})
		b.mu.Unlock()
	case client.EventWelcome, client.EventGoAway, client.EventLayoutRejected:
	}
}
