package live

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// The reasons for which viewers leave or are sent away, for the metrics.
const (
	closedGone     = "gone"
	closedSlow     = "slow"
	closedSilent   = "silent"
	closedLogin    = "login"
	closedFlood    = "flood"
	closedDatabase = "database"
	closedStopping = "stopping"
	closedFault    = "fault"
)

var closings = []string{closedGone, closedSlow, closedSilent, closedLogin, closedFlood, closedDatabase, closedStopping, closedFault}

// recheckEvery is how often it is asked whether a viewer may still look on.
const recheckEvery = time.Minute

// viewer is one connection. What it costs: this, eight bytes for each device it
// is told of (four are the count, the rest its share of the list that all with
// the same filter have), two goroutines, the socket's buffers, and while something
// is being written to it one buffer.
type viewer struct {
	hub       *Hub
	transport transport
	user      int32                       // 0: nobody in particular
	recheck   func(context.Context) error // nil: no more is to be asked
	filter    filter
	hash      uint32
	selection *selection
	out       outbox
	asked     chan filter   // new subscriptions; not buffered, as the following
	wrong     chan string   // what is wrong with what it said
	flooded   chan struct{} // it says too much
	gone      chan struct{} // closed when reading has ended
	over      chan struct{} // closed when telling has ended

	list    []*entry // of the selection, as last told
	listed  uint64   // its selection.changed
	counts  []uint32 // entry.rows as last told, by place in list
	told    uint64   // everything up to this change
	event   uint64   // and this number of the ring
	figures uint64
	beyond  int
	crowded uint64
}

// goodbye ends a viewer, for a reason that it is told.
type goodbye struct {
	label string
	code  uint16 // of the WebSocket close frame
	text  string
}

func (g *goodbye) Error() string { return g.text }

// run tells the viewer what there is until it ends, and says why it did.
func (v *viewer) run(ctx context.Context, from cursor, hasCursor, noSnapshot bool) error {
	h := v.hub
	if err := v.greet(ctx, from, hasCursor, noSnapshot); err != nil {
		return err
	}
	pace := newPace(v.filter.every)
	beat := time.NewTimer(pace.first(time.Now()))
	defer beat.Stop()
	life := time.NewTicker(h.cfg.Heartbeat)
	defer life.Stop()
	check := time.NewTicker(recheckEvery)
	defer check.Stop()
	for {
		var err error
		select {
		case <-beat.C:
			err = v.beat(ctx)
			beat.Reset(pace.next(time.Now()))
		case f := <-v.asked:
			if err = v.subscribe(ctx, f); err == nil {
				pace = newPace(v.filter.every)
				beat.Reset(pace.first(time.Now()))
			}
		case <-life.C:
			if v.transport.silence() > 2*h.cfg.Heartbeat {
				return &goodbye{closedSilent, 1001, "nothing was heard for too long"}
			}
			err = v.transport.sign()
		case <-check.C:
			if v.recheck == nil {
				continue
			}
			if refused := v.recheck(ctx); refused != nil {
				return &goodbye{closedLogin, 1008, refused.Error()}
			}
		case text := <-v.wrong:
			err = v.complain(text)
		case <-v.flooded:
			return &goodbye{closedFlood, 1008, "too many messages"}
		case <-v.gone:
			return nil
		case <-h.stopping:
			return &goodbye{closedStopping, 1001, errStopping.Error()}
		}
		if err != nil {
			return err
		}
	}
}

// greet says hello, and goes on from a cursor or begins with a snapshot.
func (v *viewer) greet(ctx context.Context, from cursor, hasCursor, noSnapshot bool) error {
	h := v.hub
	h.mu.RLock()
	resumes := hasCursor && v.resume(from)
	if !resumes {
		v.start()
	}
	h.mu.RUnlock()
	if hasCursor {
		outcome := "fresh"
		if resumes {
			outcome = "resumed"
		}
		h.metrics.resumed.WithLabelValues(outcome).Inc()
	}
	dst, err := v.out.begin("hello")
	if err != nil {
		return err
	}
	dst = append(dst, `,"server_time":`...)
	dst = appendTime(dst, time.Now())
	dst = fmt.Appendf(dst, `,"every":%q,"gateway":`, v.filter.every.String())
	dst = appendText(dst, h.cfg.Gateway)
	v.out.put(fmt.Appendf(dst, `,"resumed":%t`, resumes))
	switch {
	case resumes:
		return v.beat(ctx)
	case noSnapshot:
		if err := v.prepare(ctx); err != nil {
			return err
		}
		return v.finish()
	default:
		return v.snapshot(ctx)
	}
}

// resume takes a cursor over if nothing that came behind it is forgotten. What
// the ring no longer holds is told later. h.mu is held.
func (v *viewer) resume(from cursor) bool {
	h, s := v.hub, v.selection
	if from.epoch != h.epoch || from.hash != v.hash || from.change > h.change || from.event > h.ring.last || from.change < s.changed {
		return false
	}
	for _, e := range s.list {
		if s.readings && (!e.loaded || e.from > from.change) {
			return false
		}
	}
	v.start()
	v.told, v.event = from.change, from.event
	return true
}

// start makes now the point from which on changes are told. h.mu is held.
func (v *viewer) start() {
	h, s := v.hub, v.selection
	v.told, v.event = h.change, h.ring.last
	v.list, v.listed = s.list, s.changed
	v.counts = make([]uint32, len(v.list))
	for i, e := range v.list {
		v.counts[i] = uint32(e.rows)
	}
	v.beyond, v.crowded = 0, h.crowded
}

// subscribe changes over to another filter; the answer is a snapshot.
func (v *viewer) subscribe(ctx context.Context, f filter) error {
	h := v.hub
	s, err := h.choose(ctx, &f)
	if err != nil && v.isGone() {
		return errGone
	}
	if err != nil {
		h.cfg.Logger.Warn("a viewer's filter could not be asked for", "error", err)
		return v.complain("the database does not answer; ask again")
	}
	h.leave(v.selection)
	h.mu.Lock()
	h.countPace(v.filter.every, -1)
	h.countPace(f.every, 1)
	v.selection, v.filter, v.hash = s, f, f.hash()
	v.start()
	h.mu.Unlock()
	return v.snapshot(ctx)
}

// complain tells what was wrong with a message.
func (v *viewer) complain(text string) error {
	dst, err := v.out.begin("error")
	if err != nil {
		return err
	}
	dst = append(dst, `,"message":`...)
	v.out.put(appendText(dst, text))
	return v.out.finish(nil)
}

// prepare has the values of all devices loaded, so that changes can be told.
func (v *viewer) prepare(ctx context.Context) error {
	if v.filter.events&eventReadings == 0 {
		return nil
	}
	for part := range slices.Chunk(v.list, snapshotPart) {
		if err := v.load(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// load has the stored readings of devices in the table, or ends the viewer.
func (v *viewer) load(ctx context.Context, list []*entry) error {
	err := v.hub.load(ctx, list)
	switch {
	case err == nil:
		return nil
	case v.isGone():
		return errGone
	}
	v.hub.cfg.Logger.Warn("a viewer's snapshot could not be read", "error", err)
	return &goodbye{closedDatabase, 1013, "the database does not answer; try again"}
}

// isGone tells whether reading has ended, and with it what ctx is for.
func (v *viewer) isGone() bool {
	select {
	case <-v.gone:
		return true
	default:
		return false
	}
}

// snapshot tells the state of all devices. What changes meanwhile is told again,
// by the first beat: so nothing falls between the two.
func (v *viewer) snapshot(ctx context.Context) error {
	if err := v.tellDevices(ctx, v.list); err != nil {
		return err
	}
	dst, err := v.out.begin("snapshot_end")
	if err != nil {
		return err
	}
	v.out.put(dst)
	if err := v.tellBeyond(); err != nil {
		return err
	}
	return v.finish()
}

// finish ends a beat with a cursor.
func (v *viewer) finish() error {
	return v.out.finish(cursor{v.hub.epoch, v.hash, v.told, v.event}.append(nil))
}

// tellBeyond says how many devices fit the filter and are not told of.
func (v *viewer) tellBeyond() error {
	h := v.hub
	h.mu.RLock()
	beyond, crowded := v.selection.beyond, h.crowded
	h.mu.RUnlock()
	if beyond != v.beyond {
		v.beyond = beyond
		if err := v.tellSkipped("devices", uint64(beyond)); err != nil {
			return err
		}
	}
	if crowded != v.crowded {
		lost := crowded - v.crowded
		v.crowded = crowded
		return v.tellSkipped("channels", lost)
	}
	return nil
}

func (v *viewer) tellSkipped(what string, count uint64) error {
	if what != "channels" { // counted where they found no room
		v.hub.metrics.skipped.WithLabelValues(what).Add(float64(count))
	}
	dst, err := v.out.begin("skipped")
	if err != nil {
		return err
	}
	v.out.put(fmt.Appendf(dst, `,"what":%q,"count":%d`, what, count))
	return nil
}

// beat tells what changed since the last one.
func (v *viewer) beat(ctx context.Context) error {
	h, s := v.hub, v.selection
	h.mu.RLock()
	change, list, listed := h.change, s.list, s.changed
	h.mu.RUnlock()
	if listed != v.listed {
		if err := v.relist(ctx, list, listed); err != nil {
			return err
		}
	}
	tell := []func(uint64) error{v.tellFigures, v.tellPresence, v.tellEvents, v.tellReadings}
	err := v.tellBeyond()
	for i := 0; err == nil && i < len(tell); i++ {
		err = tell[i](change)
	}
	if err != nil {
		return err
	}
	v.told = change
	return v.finish()
}

// relist follows the selection: devices that fit now, and that fit no more.
func (v *viewer) relist(ctx context.Context, list []*entry, listed uint64) error {
	before := make(map[*entry]uint32, len(v.list))
	for i, e := range v.list {
		before[e] = v.counts[i]
	}
	counts := make([]uint32, len(list))
	var added []*entry
	v.hub.mu.RLock()
	for i, e := range list {
		count, known := before[e]
		if !known || !e.loaded && v.filter.events&eventReadings != 0 {
			added, count = append(added, e), uint32(e.rows)
		}
		counts[i] = count
		delete(before, e)
	}
	v.hub.mu.RUnlock()
	v.list, v.listed, v.counts = list, listed, counts
	gone := make([]string, 0, len(before))
	for e := range before {
		gone = append(gone, e.name)
	}
	slices.Sort(gone)
	for part := range slices.Chunk(gone, maxNames) {
		dst, err := v.out.begin("gone")
		if err != nil {
			return err
		}
		dst = append(dst, `,"devices":[`...)
		for i, name := range part {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendText(dst, name)
		}
		v.out.put(append(dst, ']'))
	}
	return v.tellDevices(ctx, added)
}

// ended says what is to be made of run's error.
func ended(err error) *goodbye {
	var g *goodbye
	switch {
	case err == nil:
		return &goodbye{label: closedGone}
	case errors.As(err, &g):
		return g
	case isTimeout(err):
		return &goodbye{label: closedSlow}
	}
	return &goodbye{label: closedGone}
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}
