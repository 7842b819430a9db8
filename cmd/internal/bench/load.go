package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mooring/wire"
)

// warmUp is how long a load runs before it is measured, once all its devices
// have begun, and not more than a third of the measured time.
const warmUp = time.Second

// load is a fleet that sends as fast as its windows allow.
type load struct {
	template *template
	fleet    []*device
	acked    atomic.Uint64
	begun    atomic.Int64 // devices that have had an ack
	ending   atomic.Bool
	running  sync.WaitGroup
	mu       sync.Mutex
	faults   []error
	// limit, if not 0, is the number of rows after which all devices stop, and spent
	// is closed by the first that has sent them: the load is less from then on.
	limit    uint64
	spent    chan struct{}
	spending sync.Once
}

// limited gives a load whose devices stop after so many rows.
func limited(t *template, fleet []*device, limit uint64) *load {
	return &load{template: t, fleet: fleet, limit: limit, spent: make(chan struct{})}
}

// dialers is how many handshakes are under way at a time. It is below the 256
// credentials that the server asks for at a time, so that none is sent away.
const dialers = 128

// connect dials all devices and introduces them.
func connect(ctx context.Context, fleet []*device, address string, first []byte) error {
	return forAll(fleet, dialers, func(d *device) error {
		if err := d.dial(ctx, address); err != nil {
			return err
		}
		if len(first) == 0 {
			return nil
		}
		return d.send(first)
	})
}

// forAll calls do for every one, so many at a time.
func forAll[T any](fleet []T, workers int, do func(T) error) error {
	var next atomic.Int64
	faults := make([]error, min(workers, len(fleet)))
	var running sync.WaitGroup
	for worker := range faults {
		running.Go(func() {
			for faults[worker] == nil {
				i := int(next.Add(1)) - 1
				if i >= len(fleet) {
					return
				}
				faults[worker] = do(fleet[i])
			}
		})
	}
	running.Wait()
	return errors.Join(faults...)
}

// start lets all devices send.
func (l *load) start() {
	for _, d := range l.fleet {
		l.running.Go(func() {
			if err := l.hurry(d); err != nil {
				l.fail(err)
			}
		})
	}
}

func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, err)
}

// hurry is one device until all it sent is acknowledged.
func (l *load) hurry(d *device) error {
	limit := uint64(wire.MaxSeq)
	if l.limit != 0 {
		limit = l.limit
	}
	for {
		if free := d.window - d.outstanding(l.template); free > 0 && !l.ending.Load() && d.sent < limit {
			if err := d.sendFrames(l.template, min(free, int(limit-d.sent)/l.template.rows)); err != nil {
				return err
			}
			if d.sent >= limit && l.spent != nil {
				l.spending.Do(func() { close(l.spent) })
			}
		}
		if d.sent == d.acked && (l.ending.Load() || d.sent >= limit) {
			return nil
		}
		acked, err := d.next()
		if err != nil {
			return err
		}
		if d.acked > d.sent {
			return fmt.Errorf("acknowledged up to %d, sent up to %d", d.acked, d.sent)
		}
		if acked > 0 && d.acked == acked {
			l.begun.Add(1)
		}
		l.acked.Add(acked)
	}
}

// warm waits until every device has had an ack, so that what is done once for
// each of them, such as looking up its layout, is over, and a while longer.
func (l *load) warm(ctx context.Context, longer time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for l.begun.Load() < int64(len(l.fleet)) {
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("%d of %d devices were acknowledged: %w", l.begun.Load(), len(l.fleet), err)
		}
	}
	return sleep(ctx, longer)
}

// errSpent means that a load had nothing left to send before it was measured.
var errSpent = errors.New("all rows of a device were sent before the load was measured")

// until waits for so long, or until the first device has sent all it is to send.
func (l *load) until(ctx context.Context, length time.Duration) error {
	select {
	case <-l.spent:
		return errSpent
	default:
	}
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-l.spent: // nil: never
	case <-timer.C:
	}
	return nil
}

// end lets the devices stop, waits for the last acks and closes.
func (l *load) end() error {
	l.ending.Store(true)
	deadline := time.AfterFunc(30*time.Second, func() {
		for _, d := range l.fleet {
			d.close()
		}
	})
	defer deadline.Stop()
	l.running.Wait()
	for _, d := range l.fleet {
		d.close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.faults) > 0 {
		return fmt.Errorf("%d of %d devices failed, the first: %w", len(l.faults), len(l.fleet), l.faults[0])
	}
	return nil
}

// outcome is what a load did while it was measured.
type outcome struct {
	rows      uint64
	elapsed   time.Duration
	used      usage
	batchRows float64 // mean
	peak      int64   // the server's memory, bytes
	turns     uint64  // of a swarm
	wal       int64   // bytes that PostgreSQL logged
}

func (o *outcome) rowsPerSecond() float64 { return float64(o.rows) / o.elapsed.Seconds() }

// perRow is processor time for each row, in µs.
func (o *outcome) perRow(used time.Duration) float64 {
	return float64(used.Nanoseconds()) / 1000 / float64(o.rows)
}

// addTo adds what all loads have in common.
func (o *outcome) addTo(s *Scenario) {
	o.addSuffixed(s, "")
}

// addSuffixed is addTo for one of several loads of a scenario.
func (o *outcome) addSuffixed(s *Scenario, suffix string) {
	o.used.addTo(s, suffix)
	s.add("measured_s"+suffix, o.elapsed.Seconds())
	s.add("batch_rows"+suffix, o.batchRows)
	s.add("wal_bytes_per_row"+suffix, float64(o.wal)/float64(o.rows))
	s.add("gateway_peak_bytes"+suffix, float64(o.peak))
}

// addTo adds the processor time of the three, and the generator's share of it.
func (u usage) addTo(s *Scenario, suffix string) {
	s.add("gateway_cpu_s"+suffix, u.gateway.Seconds())
	s.add("postgres_cpu_s"+suffix, u.postgres.Seconds())
	s.add("generator_cpu_s"+suffix, u.generator.Seconds())
	s.add("generator_cpu_share"+suffix, u.generator.Seconds()/(u.gateway+u.postgres+u.generator).Seconds())
}

// and joins two measurements of the same load.
func (o *outcome) and(other *outcome) outcome {
	if o.rows == 0 {
		return *other
	}
	joined := outcome{rows: o.rows + other.rows, elapsed: o.elapsed + other.elapsed, peak: max(o.peak, other.peak)}
	joined.batchRows = (o.batchRows + other.batchRows) / 2
	joined.turns, joined.wal = o.turns+other.turns, o.wal+other.wal
	joined.used.gateway = o.used.gateway + other.used.gateway
	joined.used.postgres = o.used.postgres + other.used.postgres
	joined.used.generator = o.used.generator + other.used.generator
	return joined
}

// measure lets a running load warm up and watches it for a while.
func (b *bench) measure(ctx context.Context, server *child, l *load, name string) (o outcome, err error) {
	if err := l.warm(ctx, b.warm); err != nil {
		return o, err
	}
	return b.watch(ctx, server, l, name)
}

// watch is measure for a load that is warm.
func (b *bench) watch(ctx context.Context, server *child, l *load, name string) (o outcome, err error) {
	stopProfile, err := b.profile(server, name)
	if err != nil {
		return o, err
	}
	sumBefore, countBefore, err := batches(ctx, server.admin)
	if err != nil {
		return o, err
	}
	wal, err := b.probe.LogPosition(ctx)
	if err != nil {
		return o, err
	}
	// Rows, time and processors are read together, in one order: each is of as long.
	ackedBefore := l.acked.Load()
	before, err := readUsage(b.cluster.Info().PID, []*child{server}, nil)
	if err != nil {
		return o, err
	}
	if err := l.until(ctx, b.cfg.For); err != nil {
		return o, err
	}
	o.rows = l.acked.Load() - ackedBefore
	after, err := readUsage(b.cluster.Info().PID, []*child{server}, nil)
	if err != nil {
		return o, err
	}
	o.elapsed, o.used = after.at.Sub(before.at), after.since(before)
	if o.wal, err = b.probe.LogPosition(ctx); err != nil {
		return o, err
	}
	o.wal -= wal
	sum, count, err := batches(ctx, server.admin)
	if err != nil {
		return o, err
	}
	o.batchRows = (sum - sumBefore) / max(1, count-countBefore)
	if o.peak, err = memory(server.pid(), "VmHWM"); err != nil {
		return o, err
	}
	if o.rows == 0 {
		return o, errors.New("no row was acknowledged while measuring")
	}
	return o, stopProfile()
}

// saturated runs a whole load against a server of its own, on a table as it is.
func (b *bench) saturated(ctx context.Context, s shape, count int, name string) (o outcome, err error) {
	fleet, err := b.devices(ctx, count, now())
	if err != nil {
		return o, err
	}
	return b.saturatedBy(ctx, &load{template: newTemplate(s), fleet: fleet}, name)
}

func (b *bench) saturatedBy(ctx context.Context, l *load, name string) (o outcome, err error) {
	server, err := b.server(ctx)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	fleet, s := l.fleet, l.template.shape
	if err := connect(ctx, fleet, server.address, introduction(s)); err != nil {
		return o, errors.Join(err, l.end())
	}
	l.start()
	o, err = b.measure(ctx, server, l, name)
	return o, errors.Join(err, l.end())
}

// batches reads the sum and the number of batch sizes from the server's metrics.
func batches(ctx context.Context, address string) (sum, count float64, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	if err != nil {
		return 0, 0, err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, 0, err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		switch name {
		case "mooring_ingest_batch_rows_sum":
			sum, err = strconv.ParseFloat(value, 64)
		case "mooring_ingest_batch_rows_count":
			count, err = strconv.ParseFloat(value, 64)
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return sum, count, lines.Err()
}

func sleep(ctx context.Context, length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
