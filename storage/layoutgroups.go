package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"mooring/wire"
)

// maxGroup callers are answered by one transaction.
const maxGroup = 1024

// errLayoutsClosed is what is left to say when the store is closed.
var errLayoutsClosed = errors.New("the store is closed")

// asking is a caller who waits for what the database says of its layout.
type asking struct {
	device      int32
	fingerprint [32]byte
	layout      wire.Layout     // a copy
	ctx         context.Context //nolint:containedctx // the caller's: whoever has left is not asked for
	done        chan struct{}   // closed when id and err are set
	id          int32
	err         error
}

// ask has the layout and the device's use of it committed, and waits for that.
// While the queue is full it waits for a place in it.
func (l *layouts) ask(ctx context.Context, device int32, fingerprint [32]byte, layout *wire.Layout) (int32, error) {
	a := &asking{
		device: device, fingerprint: fingerprint, ctx: ctx, done: make(chan struct{}),
		layout: wire.Layout{Name: layout.Name, Channels: slices.Clone(layout.Channels)},
	}
	select {
	case l.queue <- a:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-l.gone:
		return 0, errLayoutsClosed
	}
	select {
	case <-a.done:
	case <-ctx.Done():
	case <-l.gone:
	}
	select {
	case <-a.done: // perhaps in this very moment
		return a.id, a.err
	default:
	}
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	return 0, errLayoutsClosed
}

// run answers whoever asks, until ctx ends. A device's first use of a layout
// must be on record before its first row is acknowledged, and each was a
// transaction: a new fleet came in as fast as the disk commits. So whatever has
// gathered while the last transaction was under way goes into the next.
func (l *layouts) run(ctx context.Context) {
	defer close(l.gone)
	for {
		select {
		case <-ctx.Done():
			return
		case first := <-l.queue:
			if group := l.gather(first); len(group) > 0 {
				l.answer(ctx, group)
			}
		}
	}
}

// gather takes what waits, but for those who have left.
func (l *layouts) gather(first *asking) []*asking {
	var group []*asking
	for next := first; ; {
		if next.ctx.Err() == nil {
			group = append(group, next)
		}
		if len(group) == maxGroup {
			return group
		}
		select {
		case next = <-l.queue:
		default:
			return group
		}
	}
}

// answer commits a group and tells everybody in it what came of it. If the
// commit's outcome is unknown, all are told of an error that may pass: who asks
// again is answered by what is stored then.
func (l *layouts) answer(ctx context.Context, group []*asking) {
	bounded, cancel := context.WithTimeout(ctx, l.bound)
	defer cancel()
	o, err := l.commit(bounded, group)
	if crossed := (*pgconn.PgError)(nil); errors.As(err, &crossed) && strings.HasPrefix(crossed.Code, "40") {
		// Another server wrote the same at the same time, and has done so now.
		o, err = l.commit(bounded, group)
	}
	if err != nil {
		if half := len(group) / 2; half > 0 && rolledBack(err) && classify(err) == failureRow {
			// Somebody's layout is one that Postgres never takes. Whose it is shows
			// when it stands alone.
			l.answer(ctx, group[:half])
			l.answer(ctx, group[half:])
			return
		}
		for _, a := range group {
			a.err = err
			close(a.done)
		}
		return
	}
	l.learn(o)
	for i, a := range group {
		a.id, a.err = o.layouts[a.fingerprint], o.refused[i]
		if a.err == nil {
			l.pairs.Add(pair{a.device, a.id}, struct{}{})
		}
		close(a.done)
	}
}

// learn keeps what a committed group has shown, and has views made.
func (l *layouts) learn(o *groupOutcome) {
	for fingerprint, id := range o.layouts {
		l.ids.Add(fingerprint, id)
	}
	for _, a := range o.added {
		l.logger.Info("new layout", "name", a.layout.Name, "id", o.layouts[a.fingerprint],
			"channels", len(a.layout.Channels), "device", a.device)
		l.stored(a.layout.Name)
	}
	if o.found {
		// Whoever stored it has its view made; unless that was us, and the answer
		// to the commit was lost.
		l.found()
	}
	now := time.Now()
	for device, known := range o.devices {
		if known.full {
			l.full.remember(device, known.has, now)
		}
	}
}

// groupOutcome is what the transaction of a group came to.
type groupOutcome struct {
	layouts map[[32]byte]int32 // numbers of all layouts that are stored
	added   []*asking          // who declared those that are stored for the first time
	found   bool               // some were stored and not known here
	devices map[int32]*deviceLayouts
	refused []error // by place in the group; nil: taken
}

// deviceLayouts is what a device uses, those that the group brings included.
type deviceLayouts struct {
	has   map[[32]byte]struct{}
	count int
	full  bool // it asked for more than it may have
}

func (d *deviceLayouts) add(fingerprint [32]byte) {
	if d.has == nil {
		d.has = make(map[[32]byte]struct{})
	}
	d.has[fingerprint] = struct{}{}
	d.count++
}

// refuse says why a device may not use a layout; nil: it may. isNew: nobody has
// stored it, nor does anybody before it in the group. Those before it count.
func (l *layouts) refuse(o *groupOutcome, a *asking, isNew bool, stored int) error {
	device := o.devices[a.device]
	if device.count >= l.perDevice {
		device.full = true
		return fmt.Errorf("%w: the device has declared %d layouts already", errDeviceFull, device.count)
	}
	if isNew && stored+len(o.added) >= l.max {
		return fmt.Errorf("%w: there are %d layouts already", ErrLayoutRefused, stored+len(o.added))
	}
	return nil
}
