package devices

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// record is a session from its opening until its end is in Postgres.
type record struct {
	device   Device
	boot     uint32
	progress SessionProgress
	end      *SessionEnd // once it ended; its SessionProgress is unused: progress holds it
	ended    bool
	changed  bool        // listed in book.changed
	revoked  *Revocation // its connection should end and has not
}

// book is the memory of this gateway's sessions: one record each, so it is
// bounded by the number of connections. While Postgres is away no session can
// open, so ended ones can't pile up either.
type book struct {
	mu       sync.Mutex
	records  map[int64]*record
	byDevice map[int32][]*record // oldest first
	changed  []*record           // live, with progress to write
	ended    []*record           // with an end to write
	ends     chan struct{}       // capacity 1: ended is not empty
	suspects map[int32]struct{}  // devices with sessions whose credential may have changed
	marked   map[int32]struct{}  // devices with sessions that are revoked, or were a moment ago
	rota     rota                // when open ones are asked about
}

// newBook gives a book whose open sessions are each due once in checkEvery.
func newBook(checkEvery time.Duration) *book {
	return &book{
		rota:    newRota(checkEvery, time.Now()),
		records: make(map[int64]*record), byDevice: make(map[int32][]*record),
		ends: make(chan struct{}, 1), suspects: make(map[int32]struct{}), marked: make(map[int32]struct{}),
	}
}

// open adds a session.
func (b *book) open(id int64, start *SessionStart) {
	rec := &record{device: start.Device, boot: start.BootID}
	rec.progress.Session = id
	b.mu.Lock()
	defer b.mu.Unlock()
	b.records[id] = rec
	b.byDevice[start.Device.ID] = append(b.byDevice[start.Device.ID], rec)
	b.rota.join(id)
}

// hint is the progress of the device's newest session of this boot.
func (b *book) hint(device int32, boot uint32) (next uint64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, rec := range slices.Backward(b.byDevice[device]) {
		if rec.boot == boot && rec.progress.HasNext {
			return rec.progress.Next, true
		}
	}
	return 0, false
}

// newest is the device's newest open session; 0: none.
func (b *book) newest(device int32) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	var newest int64
	for _, rec := range b.byDevice[device] {
		if !rec.ended {
			newest = max(newest, rec.progress.Session)
		}
	}
	return newest
}

// progress notes how far a session got; false if it is not open.
func (b *book) progress(p SessionProgress) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	rec, ok := b.records[p.Session]
	if !ok || rec.ended {
		return false
	}
	rec.update(p)
	b.mark(rec)
	return true
}

// update takes over what the newer progress says.
func (rec *record) update(p SessionProgress) {
	if p.LastSeen.IsZero() {
		p.LastSeen = rec.progress.LastSeen
	}
	if !p.HasNext {
		p.Next, p.HasNext = rec.progress.Next, rec.progress.HasNext
	}
	if p.Throttle.Times < rec.progress.Throttle.Times { // taken earlier, told later
		p.Throttle = rec.progress.Throttle
	}
	rec.progress = p
}

// mark lists a live record as changed; called under mu.
func (b *book) mark(rec *record) {
	if !rec.changed {
		rec.changed = true
		b.changed = append(b.changed, rec)
	}
}

// markAll lists all live records, so that the next flush says of each that it is open.
func (b *book) markAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, rec := range b.records {
		if !rec.ended {
			b.mark(rec)
		}
	}
}

// end notes a session's end; false if it is not open.
func (b *book) end(e SessionEnd) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	rec, ok := b.records[e.Session]
	if !ok || rec.ended {
		return false
	}
	rec.update(e.SessionProgress)
	rec.ended, rec.end, rec.revoked = true, &e, nil
	b.ended = append(b.ended, rec)
	signal(b.ends)
	return true
}

// abandon ends every open session where it stands.
func (b *book) abandon(at time.Time, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, rec := range b.records {
		if !rec.ended {
			rec.ended, rec.end, rec.revoked = true, &SessionEnd{Disconnected: at, Reason: reason, Incomplete: true}, nil
			b.ended = append(b.ended, rec)
		}
	}
}

// written is one session's state as a flush takes it.
type written struct {
	rec      *record
	progress SessionProgress
	end      *SessionEnd // nil: live
}

// take removes up to limit sessions that have something to write, ended ones
// first, and live ones only if withProgress. They are in the order of their
// numbers, so that statements which touch the same rows lock them in one order.
func (b *book) take(limit int, withProgress bool) []written {
	b.mu.Lock()
	defer b.mu.Unlock()
	var batch []written
	n := min(limit, len(b.ended))
	for _, rec := range b.ended[:n] {
		batch = append(batch, written{rec, rec.progress, rec.end})
	}
	b.ended = cut(b.ended, n)
	if withProgress {
		n = 0
		for _, rec := range b.changed {
			if len(batch) == limit {
				break
			}
			n++
			rec.changed = false
			if !rec.ended { // else its end says it all
				batch = append(batch, written{rec, rec.progress, nil})
			}
		}
		b.changed = cut(b.changed, n)
	}
	slices.SortFunc(batch, func(a, b written) int { return cmp.Compare(a.progress.Session, b.progress.Session) })
	return batch
}

// cut removes the first n records and lets go of the array when it is used up.
func cut(records []*record, n int) []*record {
	if n == len(records) {
		return nil
	}
	return records[n:]
}

// wrote forgets the sessions whose ends are written.
func (b *book) wrote(batch []written) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range batch {
		if w.end == nil {
			continue
		}
		delete(b.records, w.progress.Session)
		device := w.rec.device.ID
		rest := slices.DeleteFunc(b.byDevice[device], func(rec *record) bool { return rec == w.rec })
		if len(rest) == 0 {
			delete(b.byDevice, device)
		} else {
			b.byDevice[device] = rest
		}
	}
}

// putBack lists again what could not be written.
func (b *book) putBack(batch []written) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range batch {
		if w.end != nil {
			b.ended = append(b.ended, w.rec)
		} else if !w.rec.ended {
			b.mark(w.rec)
		}
	}
	if len(b.ended) > 0 {
		signal(b.ends)
	}
}

// size counts open sessions, and ended ones that are not yet written.
func (b *book) size() (open, ended int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, rec := range b.records {
		if rec.ended {
			ended++
		}
	}
	return len(b.records) - ended, ended
}

// all gives the numbers of all records, ended ones included.
func (b *book) all() []int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	ids := make([]int64, 0, len(b.records))
	for id := range b.records {
		ids = append(ids, id)
	}
	return ids
}

// live calls yield for every open session.
func (b *book) live(yield func(id int64)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, rec := range b.records {
		if !rec.ended {
			yield(id)
		}
	}
}

// takeDue calls yield for the open sessions that are to be asked about by now.
func (b *book) takeDue(now time.Time, yield func(id int64)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rota.take(now, func(id int64) bool {
		rec, ok := b.records[id]
		if !ok || rec.ended {
			return false
		}
		yield(id)
		return true
	})
}

// look calls yield with the devices of those of the sessions that are open; it
// must not keep them.
func (b *book) look(ids []int64, yield func(id int64, device *Device)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range ids {
		if rec := b.records[id]; rec != nil && !rec.ended {
			yield(id, &rec.device)
		}
	}
}

// suspect notes that a device's sessions must be checked; false if it has none.
func (b *book) suspect(device int32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.byDevice[device]) == 0 {
		return false
	}
	b.suspects[device] = struct{}{}
	return true
}

// takeSuspects calls yield for every open session of a suspect device, and
// forgets the suspicion.
func (b *book) takeSuspects(yield func(id int64)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for device := range b.suspects {
		for _, rec := range b.byDevice[device] {
			if !rec.ended {
				yield(rec.progress.Session)
			}
		}
	}
	clear(b.suspects)
}

// revokeSession marks one session; false if it is not open any more.
func (b *book) revokeSession(id int64, revocation Revocation) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	rec, ok := b.records[id]
	if ok && !rec.ended {
		rec.revoked = &revocation
		b.marked[rec.device.ID] = struct{}{}
		return true
	}
	return false
}

// pardon takes back the marks of a device that was enabled again: a repeated
// revocation would hit its next session.
func (b *book) pardon(device int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, rec := range b.byDevice[device] {
		if rec.revoked != nil && rec.revoked.Disabled {
			rec.revoked = nil
		}
	}
}

// overdue lists the revocations whose sessions are still open. Sessions that a
// newer one has replaced are not worth a second call.
func (b *book) overdue() []Revocation {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []Revocation
	for device := range b.marked { // not all devices: it is asked every second
		records := b.byDevice[device]
		open := func(rec *record) bool { return rec.revoked != nil && !rec.ended }
		if !slices.ContainsFunc(records, open) {
			delete(b.marked, device)
		} else if rec := records[len(records)-1]; open(rec) {
			list = append(list, *rec.revoked)
		}
	}
	return list
}
