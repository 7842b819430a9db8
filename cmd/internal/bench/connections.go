package bench

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// crowd is many connections that are merely held.
type crowd struct {
	fleet   []*device
	first   []byte // what each sends once connected; empty: to a bare server
	address string
	running sync.WaitGroup
	leaving atomic.Bool
	then    func(*device) error // what a device does once it is acknowledged; nil: it reads
	refused atomic.Int64        // handshakes that were to be tried again
	lost    atomic.Int64        // connections that ended unasked
	joined  time.Time           // when the last handshake was answered
}

// newCrowd makes a crowd for the server under test, or for a bare one.
func newCrowd(fleet []*device, server *child, bare bool) *crowd {
	c := &crowd{fleet: fleet, address: server.address}
	for i, d := range fleet {
		d.source = sourceAddress(1 + i/perAddress)
	}
	if !bare {
		c.first = introduction(oneRow)
	}
	return c
}

// join connects all of them and returns when the last one is upgraded and, with
// a server that acknowledges, has its first row acknowledged.
func (c *crowd) join(ctx context.Context) error {
	c.leaving.Store(false)
	t := newTemplate(oneRow)
	var waiting sync.WaitGroup
	err := forAll(c.fleet, dialers, func(d *device) error {
		for {
			err := d.dial(ctx, c.address)
			if err == nil {
				break
			}
			if !errors.Is(err, errRefused) {
				return err
			}
			c.refused.Add(1)
			if err := sleep(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
		if len(c.first) == 0 {
			c.running.Go(func() { c.hold(d) })
			return nil
		}
		d.buffer = append(d.buffer[:0], c.first...)
		d.buffer = t.append(d.buffer, d.base, d.sent)
		d.sent++
		if err := d.send(d.buffer); err != nil {
			return err
		}
		d.buffer = nil
		waiting.Add(1)
		c.running.Go(func() {
			for d.acked < d.sent {
				if _, err := d.next(); err != nil {
					c.gone()
					waiting.Done()
					return
				}
			}
			waiting.Done()
			if c.then == nil {
				c.hold(d)
			} else if err := c.then(d); err != nil {
				c.gone()
			}
		})
		return nil
	})
	c.joined = time.Now()
	waiting.Wait()
	if lost := c.lost.Load(); err == nil && lost > 0 {
		err = errors.New("connections were lost while connecting")
	}
	return err
}

// hold answers pings until the connection ends.
func (c *crowd) hold(d *device) {
	for {
		if _, err := d.next(); err != nil {
			c.gone()
			return
		}
	}
}

func (c *crowd) gone() {
	if !c.leaving.Load() {
		c.lost.Add(1)
	}
}

// leave drops all connections.
func (c *crowd) leave() {
	c.leaving.Store(true)
	_ = forAll(c.fleet, 16, func(d *device) error {
		d.drop()
		return nil
	})
	c.running.Wait()
}

// held is what connections that do nothing cost.
type held struct {
	perConnection, collected float64 // bytes resident
	processor, sweep         time.Duration
	generator, postgres      time.Duration
	peak                     int64
	lost                     int64
	connecting               time.Duration // until all were upgraded and acknowledged
}

// hold connects the fleet to a server, watches it for a while and leaves.
func (b *bench) hold(ctx context.Context, fleet []*device, server *child, bare bool) (h held, err error) {
	if err := server.tell(commandFree); err != nil {
		return h, err
	}
	empty, err := memory(server.pid(), "VmRSS")
	if err != nil {
		return h, err
	}
	c := newCrowd(fleet, server, bare)
	defer c.leave()
	begun := time.Now()
	if err := c.join(ctx); err != nil {
		return h, err
	}
	h.connecting = time.Since(begun)
	if err := sleep(ctx, min(warmUp, b.cfg.IdleFor)); err != nil {
		return h, err
	}
	sweepBefore, err := sweepTime(ctx, server, bare)
	if err != nil {
		return h, err
	}
	before, err := readUsage(b.cluster.Info().PID, []*child{server}, nil)
	if err != nil {
		return h, err
	}
	if err := sleep(ctx, b.cfg.IdleFor); err != nil {
		return h, err
	}
	after, err := readUsage(b.cluster.Info().PID, []*child{server}, nil)
	if err != nil {
		return h, err
	}
	used := after.since(before)
	h.processor, h.generator, h.postgres = used.gateway, used.generator, used.postgres
	full, err := memory(server.pid(), "VmRSS")
	if err != nil {
		return h, err
	}
	sweepAfter, err := sweepTime(ctx, server, bare)
	if err != nil {
		return h, err
	}
	h.sweep = sweepAfter - sweepBefore
	h.perConnection = float64(full-empty) / float64(len(fleet))
	if err := server.tell(commandFree); err != nil {
		return h, err
	}
	if full, err = memory(server.pid(), "VmRSS"); err != nil {
		return h, err
	}
	h.collected = float64(full-empty) / float64(len(fleet))
	if !bare {
		if err := b.heap(server, "idle"); err != nil {
			return h, err
		}
	}
	h.lost = c.lost.Load()
	h.peak, err = memory(server.pid(), "VmHWM")
	return h, err
}

// sweepTime is what looking at its sessions' timers has taken a server so far.
func sweepTime(ctx context.Context, server *child, bare bool) (time.Duration, error) {
	if bare {
		return 0, nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+server.admin+"/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	const name = "mooring_ingest_sweep_seconds_total "
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name); ok {
			seconds, err := strconv.ParseFloat(value, 64)
			return time.Duration(seconds * float64(time.Second)), err
		}
	}
	return 0, errors.Join(errors.New("the server's metrics lack "+name), lines.Err())
}

// idle: connections that do nothing, beside those of a bare server.
func (b *bench) idle(ctx context.Context) (s Scenario, err error) {
	count := b.cfg.Connections
	if err := b.fresh(ctx); err != nil {
		return s, err
	}
	fleet, err := b.devices(ctx, count, now())
	if err != nil {
		return s, err
	}
	measure := func(start func(context.Context) (*child, error), bare bool) (h held, err error) {
		server, err := start(ctx)
		if err != nil {
			return h, err
		}
		defer func() { err = errors.Join(err, server.stop()) }()
		return b.hold(ctx, fleet, server, bare)
	}
	b.say("idle: %d connections to a bare server", count)
	floor, err := measure(b.bareServer, true)
	if err != nil {
		return s, err
	}
	b.say("idle: %d connections", count)
	ours, err := measure(b.server, false)
	if err != nil {
		return s, err
	}
	percent := func(used time.Duration) float64 { return 100 * used.Seconds() / b.cfg.IdleFor.Seconds() }
	s.add("connections", float64(count))
	s.addAgainst("new_devices_per_s", float64(count)/ours.connecting.Seconds(), "bare_handshakes_per_s")
	s.add("bare_handshakes_per_s", float64(count)/floor.connecting.Seconds())
	s.Figures = append(s.Figures, Figure{
		Name: "rss_bytes_per_connection", Value: ours.perConnection, Against: "bare_rss_bytes_per_connection", Wanted: atMost(8192),
	})
	s.add("bare_rss_bytes_per_connection", floor.perConnection)
	s.addAgainst("rss_collected_bytes_per_connection", ours.collected, "bare_rss_collected_bytes_per_connection")
	s.add("bare_rss_collected_bytes_per_connection", floor.collected)
	s.add("cpu_percent", percent(ours.processor))
	s.add("cpu_percent_per_1000", percent(ours.processor)*1000/float64(count))
	s.add("sweep_cpu_percent", percent(ours.sweep))
	s.add("bare_cpu_percent", percent(floor.processor))
	s.add("postgres_cpu_percent", percent(ours.postgres))
	s.add("generator_cpu_percent", percent(ours.generator))
	s.add("lost", float64(ours.lost+floor.lost))
	s.add("gateway_peak_bytes", float64(ours.peak))
	s.note("new_devices_per_s: of devices that the database had no row and no layout of, until the last one's first row was acknowledged")
	s.note("each connection authenticated, one layout, one row acknowledged, pinged every 30 s; processor time of the whole server, percent of one core, over %v; resident memory beyond an empty server's, as it is then (collected: after the process was told to collect garbage and give memory back); sweep: the time that looking at all timers took, which is part of it", b.cfg.IdleFor)
	return s, nil
}

// storm: all connections drop and come back, beside the handshakes of a bare
// server.
func (b *bench) storm(ctx context.Context) (s Scenario, err error) {
	count := b.cfg.Connections
	if err := b.fresh(ctx); err != nil {
		return s, err
	}
	fleet, err := b.devices(ctx, count, now())
	if err != nil {
		return s, err
	}
	// Before and after, because how fast the machine is may change meanwhile.
	var floor time.Duration
	var bareUsed usage
	measureBare := func() error {
		b.say("storm: %d connections to a bare server", count)
		bare, err := b.bareServer(ctx)
		if err != nil {
			return err
		}
		took, used, err := b.comeBack(ctx, newCrowd(fleet, bare, true), bare)
		floor += took.took / 2
		bareUsed.gateway += used.gateway / 2
		bareUsed.generator += used.generator / 2
		return errors.Join(err, bare.stop())
	}
	if err := measureBare(); err != nil {
		return s, err
	}
	b.say("storm: %d connections", count)
	server, err := b.server(ctx)
	if err != nil {
		return s, err
	}
	c := newCrowd(fleet, server, false)
	took, used, err := b.comeBack(ctx, c, server)
	peak := int64(0)
	if err == nil {
		peak, err = memory(server.pid(), "VmHWM")
	}
	if err := errors.Join(err, server.stop()); err != nil {
		return s, err
	}
	if err := measureBare(); err != nil {
		return s, err
	}
	s.add("connections", float64(count))
	s.addAgainst("seconds_until_all_acked", took.took.Seconds(), "bare_handshake_seconds")
	s.add("bare_handshake_seconds", floor.Seconds())
	s.want("ratio", took.took.Seconds()/floor.Seconds(), atMost(1.5))
	s.add("seconds_until_all_upgraded", took.upgraded.Seconds())
	s.addAgainst("handshakes_per_s", float64(count)/took.took.Seconds(), "bare_handshakes_per_s")
	s.add("bare_handshakes_per_s", float64(count)/floor.Seconds())
	s.add("queries", float64(took.queries))
	s.want("queries_per_connection", float64(took.queries)/float64(count), atMost(1))
	s.add("refused_for_now", float64(c.refused.Load()))
	used.addTo(&s, "")
	s.add("bare_cpu_s", bareUsed.gateway.Seconds())
	s.add("bare_generator_cpu_s", bareUsed.generator.Seconds())
	s.add("gateway_peak_bytes", float64(peak))
	s.note("clock from when the last connection is dropped until the last row sent after reconnecting is acknowledged; bare: until the last handshake is answered, mean of a run before and one after; %d handshakes under way at a time; queries: transactions that PostgreSQL counted, the %v before and after included", dialers, b.cfg.Quiet)
	return s, nil
}

// storming is what a return of all took.
type storming struct {
	took     time.Duration
	upgraded time.Duration // until the last handshake was answered
	queries  int64
}

func (b *bench) comeBack(ctx context.Context, c *crowd, server *child) (s storming, used usage, err error) {
	defer c.leave()
	if err := c.join(ctx); err != nil {
		return s, used, err
	}
	bare := len(c.first) == 0
	var before, after int64
	if !bare {
		if err := sleep(ctx, b.cfg.Quiet); err != nil {
			return s, used, err
		}
		if before, err = b.probe.Transactions(ctx); err != nil {
			return s, used, err
		}
	}
	c.leave()
	stopProfile := func() error { return nil }
	if !bare {
		if stopProfile, err = b.profile(server, "storm"); err != nil {
			return s, used, err
		}
	}
	start, err := readUsage(b.cluster.Info().PID, []*child{server}, nil)
	if err != nil {
		return s, used, err
	}
	if err := c.join(ctx); err != nil {
		return s, used, err
	}
	s.took, s.upgraded = time.Since(start.at), c.joined.Sub(start.at)
	end, err := readUsage(b.cluster.Info().PID, []*child{server}, nil)
	if err := errors.Join(err, stopProfile()); err != nil {
		return s, used, err
	}
	used = end.since(start)
	if !bare {
		if err := b.heap(server, "storm"); err != nil {
			return s, used, err
		}
		if err := sleep(ctx, b.cfg.Quiet); err != nil {
			return s, used, err
		}
		after, err = b.probe.Transactions(ctx)
		s.queries = after - before
	}
	return s, used, err
}
