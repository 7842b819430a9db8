package bench

import (
	"sync"
	"sync/atomic"
)

// turns is a fleet of which a few devices send at a time, one frame or more
// each: whoever has its frames acknowledged passes the turn on to the next
// device in line. So many devices keep no more rows under way than few do.
type turns struct {
	template *template
	fleet    []*device
	active   int // devices whose turn it is at a time
	frames   int // of a turn
	next     atomic.Int64
	acked    atomic.Uint64
	begun    atomic.Int64 // turns
	ending   atomic.Bool
	mu       sync.Mutex
	fault    error // the first
}

// start gives the first devices their turns.
func (t *turns) start() {
	for range min(t.active, len(t.fleet)) {
		t.pass()
	}
}

// follow is what a connected device does: it reads acks until the connection
// ends, and passes the turn on when it has had its own.
func (t *turns) follow(d *device) error {
	for {
		acked, err := d.next()
		if err != nil {
			return err
		}
		t.acked.Add(acked)
		if acked > 0 && d.acked == d.goal.Load() {
			d.busy.Store(false)
			t.pass()
		}
	}
}

// pass lets the next device send that is not at it.
func (t *turns) pass() {
	for !t.ending.Load() {
		d := t.fleet[int(t.next.Add(1)-1)%len(t.fleet)]
		if !d.busy.CompareAndSwap(false, true) {
			continue
		}
		t.begun.Add(1)
		frames := max(1, min(t.frames, d.window))
		d.goal.Store(d.sent + uint64(frames*t.template.rows))
		err := d.sendSome(t.template, frames)
		if err == nil {
			return
		}
		t.mu.Lock()
		if t.fault == nil && !t.ending.Load() {
			t.fault = err
		}
		t.mu.Unlock()
		return
	}
}

// end lets nobody send any more, and tells what went wrong.
func (t *turns) end() error {
	t.ending.Store(true)
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.fault
}
