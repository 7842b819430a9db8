package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"mooring/devices"
)

// What live measures.
const (
	liveDevices = 100 // of each viewer
	liveUsers   = 20  // who they are; a user may ask only so often
	// liveForget is the least that --live-resume takes, and liveRest until devices
	// that nobody looks at are no longer watched.
	liveForget = time.Second
	liveRest   = 2 * time.Second
)

// What a viewer does, and what a phase is named after.
const (
	aloneKind   = "alone"   // nobody looks
	readingKind = "reading" // all read
	stillKind   = "still"   // nobody reads
)

// watched: how fast rows are taken while many look on, beside the same while
// nobody does, in short phases by turns, so that what else the machine does meets
// both; first as fast as it goes, then at a rate that leaves the machine time.
func (b *bench) watched(ctx context.Context) (s Scenario, err error) {
	tokens, err := b.viewerTokens(ctx)
	if err != nil {
		return s, err
	}
	short := *b
	short.cfg.For = b.cfg.For / 3
	l := &lookers{bench: &short, tokens: tokens}
	full, err := l.run(ctx, "live", b.cfg.Devices, 0, repeat(b.cfg.Rounds+1, aloneKind, readingKind, aloneKind, stillKind))
	if err != nil {
		return s, err
	}
	steady, err := l.run(ctx, "live-steady", b.cfg.SteadyDevices, b.cfg.SteadyRate, repeat(b.cfg.Rounds, aloneKind, readingKind))
	if err != nil {
		return s, err
	}
	for _, kind := range []string{readingKind, stillKind} {
		against := full.neighbours(kind)
		s.want("ratio_"+kind, median(against), atLeast(0.95))
		s.add("ratio_"+kind+"_least", slices.Min(against))
		s.add("ratio_"+kind+"_most", slices.Max(against))
	}
	// Nobody beside nobody: what the same load differs by from phase to phase.
	null := full.neighbours(aloneKind)
	s.add("ratio_alone", median(null))
	s.add("ratio_alone_least", slices.Min(null))
	s.add("ratio_alone_most", slices.Max(null))
	for _, kind := range []string{aloneKind, readingKind, stillKind} {
		full.addTo(&s, kind, "_"+kind)
	}
	s.want("steady_ratio", median(steady.neighbours(readingKind)), atLeast(0.95))
	for _, kind := range []string{aloneKind, readingKind} {
		steady.addTo(&s, kind, "_steady_"+kind)
		s.add("ack_p50_ms_steady_"+kind, steady.median(kind, func(p *phase) float64 { return p.ack50 }))
		s.add("ack_p99_ms_steady_"+kind, steady.median(kind, func(p *phase) float64 { return p.ack99 }))
	}
	s.add("late_frames_steady", float64(steady.late))
	s.note("%d devices send frames of %d rows as fast as their windows allow, in steady %d devices %d rows/s; each of %d viewers looks at %d of the first %d of them once a second, over Server-Sent Events, from a process of its own on the same cores", b.cfg.Devices, tenRows.rows, b.cfg.SteadyDevices, b.cfg.SteadyRate, b.cfg.Viewers, min(liveDevices, b.cfg.Devices), b.cfg.Devices)
	s.note("phases of %v by turns, nobody looks before and after each; a ratio is that of a phase to the mean of these two, and the median of %d; of nobody, to the next phases of nobody; cores are processor seconds a second, medians", short.cfg.For, b.cfg.Rounds+1)
	return s, nil
}

// repeat gives the phases of so many rounds; nobody looks in the last one.
func repeat(rounds int, kinds ...string) []string {
	return append(slices.Repeat(kinds, rounds), aloneKind)
}

// viewerTokens gives users who may look on.
func (b *bench) viewerTokens(ctx context.Context) ([]string, error) {
	admin, err := devices.OpenAdmin(ctx, b.cluster.URL())
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	tokens := make([]string, liveUsers)
	for i := range tokens {
		name := fmt.Sprintf("viewer-%d-%d", time.Now().UnixNano(), i)
		if _, tokens[i], err = admin.AddUser(ctx, name, devices.RoleViewer); err != nil {
			return nil, err
		}
	}
	return tokens, nil
}

// lookers runs loads that are looked at.
type lookers struct {
	bench  *bench
	tokens []string
}

// phase is what was measured in one.
type phase struct {
	kind string
	outcome
	viewers      float64 // cores that they used
	bytes        float64 // that they read, a second
	ack50, ack99 float64 // ms; of a paced load
}

// phases are those of a load, in their order.
type phases struct {
	list []phase
	late int // frames that were not sent on time
}

// run has a load looked at, in phases. A rate of 0 is as fast as it goes.
func (l *lookers) run(ctx context.Context, name string, count, rate int, kinds []string) (all phases, err error) {
	b := l.bench
	if err := b.fresh(ctx); err != nil {
		return all, err
	}
	fleet, err := b.devices(ctx, count, now())
	if err != nil {
		return all, err
	}
	told := b.order()
	told.Resume = liveForget
	server, err := startChild(ctx, told, b.cfg.Errors)
	if err != nil {
		return all, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	a := &audition{Address: server.address, Tokens: l.tokens, Viewers: b.cfg.Viewers, Each: liveDevices}
	for i := range min(len(fleet), b.cfg.Devices) {
		a.Devices = append(a.Devices, b.fleet[i].Device.Name)
	}
	viewers, err := startChild(ctx, order{Audition: a}, b.cfg.Errors)
	if err != nil {
		return all, err
	}
	defer func() { err = errors.Join(err, viewers.stop()) }()

	senders := &load{template: newTemplate(tenRows), fleet: fleet}
	if err := connect(ctx, fleet, server.address, introduction(tenRows)); err != nil {
		return all, errors.Join(err, senders.end())
	}
	defer func() { err = errors.Join(err, senders.end()) }()
	var p *pacer // stops before the load ends
	if rate == 0 {
		senders.start()
	} else {
		p = &pacer{load: senders, latency: newLatency()}
		p.start(rate)
		defer func() {
			p.stop()
			all.late = p.late
		}()
	}
	for i, kind := range kinds {
		b.say("%s: phase %d of %d, %s", name, i+1, len(kinds), kind)
		one, err := l.phase(ctx, name, kind, server, viewers, senders, p)
		if err != nil {
			return all, err
		}
		all.list = append(all.list, one)
	}
	return all, nil
}

// phase measures one; nobody looks when it returns.
func (l *lookers) phase(ctx context.Context, name, kind string, server, viewers *child, senders *load, p *pacer) (one phase, err error) {
	one.kind = kind
	b := l.bench
	if kind != aloneKind {
		command := commandRead
		if kind == stillKind {
			command = commandStill
		}
		if _, err := viewers.number(command); err != nil {
			return one, err
		}
		defer func() {
			_, fault := viewers.number(commandLeave)
			err = errors.Join(err, fault, sleep(ctx, min(liveRest, b.cfg.For)))
		}()
	}
	warm := min(warmUp, b.cfg.For/3)
	if kind != aloneKind {
		// Until they are told readings, whose layouts the server asks for first, and
		// until the kernel takes nothing more for those that read nothing.
		warm += min(liveRest, b.cfg.For)
	}
	if err := senders.warm(ctx, warm); err != nil {
		return one, err
	}
	used, err := processorTime(viewers.pid(), false)
	if err != nil {
		return one, err
	}
	read, err := viewers.number(commandCount)
	if err != nil {
		return one, err
	}
	if p != nil {
		p.restart()
	}
	begun := time.Now()
	if one.outcome, err = b.watch(ctx, server, senders, name+"-"+kind); err != nil {
		return one, err
	}
	taken := time.Since(begun)
	if p != nil {
		latency := p.restart()
		one.ack50, one.ack99 = float64(latency.ValueAtQuantile(50))/1000, float64(latency.ValueAtQuantile(99))/1000
	}
	after, err := processorTime(viewers.pid(), false)
	if err != nil {
		return one, err
	}
	all, err := viewers.number(commandCount)
	one.viewers, one.bytes = (after-used).Seconds()/taken.Seconds(), float64(all-read)/taken.Seconds()
	return one, err
}

// number sends a command that is answered with one.
func (c *child) number(command string) (int64, error) {
	answer, err := c.ask(command)
	if err != nil {
		return 0, err
	}
	number, err := strconv.ParseInt(answer, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %s", command, answer)
	}
	return number, nil
}

// neighbours gives, of each phase of a kind, its rows/s in proportion to the mean
// of the phases before and after it in which nobody looked. The first and the
// last phase have but one.
func (p *phases) neighbours(kind string) (ratios []float64) {
	for i := range p.list {
		if p.list[i].kind != kind {
			continue
		}
		sum, count := 0.0, 0
		for _, step := range []int{-1, 1} {
			j := i + step
			for j >= 0 && j < len(p.list) && p.list[j].kind != aloneKind {
				j += step
			}
			if j >= 0 && j < len(p.list) {
				sum += p.list[j].rowsPerSecond()
				count++
			}
		}
		ratios = append(ratios, p.list[i].rowsPerSecond()*float64(count)/sum)
	}
	return ratios
}

// median is that of a figure of all phases of a kind.
func (p *phases) median(kind string, of func(*phase) float64) float64 {
	var values []float64
	for i := range p.list {
		if p.list[i].kind == kind {
			values = append(values, of(&p.list[i]))
		}
	}
	return median(values)
}

// addTo adds what all phases of a kind have in common.
func (p *phases) addTo(s *Scenario, kind, suffix string) {
	s.add("rows_per_s"+suffix, p.median(kind, func(p *phase) float64 { return p.rowsPerSecond() }))
	for _, part := range []struct {
		name string
		used func(*phase) time.Duration
	}{
		{"gateway", func(p *phase) time.Duration { return p.used.gateway }},
		{"postgres", func(p *phase) time.Duration { return p.used.postgres }},
		{"generator", func(p *phase) time.Duration { return p.used.generator }},
	} {
		s.add(part.name+"_cores"+suffix, p.median(kind, func(p *phase) float64 { return part.used(p).Seconds() / p.elapsed.Seconds() }))
	}
	s.add("batch_rows"+suffix, p.median(kind, func(p *phase) float64 { return p.batchRows }))
	if kind != aloneKind {
		s.add("viewers_cores"+suffix, p.median(kind, func(p *phase) float64 { return p.viewers }))
		s.add("viewers_bytes_per_s"+suffix, p.median(kind, func(p *phase) float64 { return p.bytes }))
	}
}

// median is the middle one, or the mean of the two.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
