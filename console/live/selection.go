package live

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"mooring/devices"
	"mooring/storage"
)

// selection is the devices that fit a filter, for all viewers that have it. Of
// Hub.mu; a list that was made is not changed any more.
type selection struct {
	key      string
	filter   filter // its devices' part
	readings bool
	viewers  int
	left     time.Time // when the last viewer left
	list     []*entry  // by name
	beyond   int       // devices that fit and are too many
	changed  uint64    // the change that brought list
}

// holds says whether a device is one of them.
func (s *selection) holds(name string) bool {
	if s.filter.anyDevice() {
		return true
	}
	_, found := slices.BinarySearchFunc(s.list, name, func(e *entry, name string) int { return strings.Compare(e.name, name) })
	return found
}

// choose gives the selection of a filter and counts a viewer of it; leave must
// follow. The first viewer waits for the database.
func (h *Hub) choose(ctx context.Context, f *filter) (*selection, error) {
	key := f.devicesKey()
	readings := f.events&eventReadings != 0
	if readings {
		key = "r" + key
	}
	h.mu.Lock()
	if s := h.selections[key]; s != nil {
		s.viewers++
		h.mu.Unlock()
		return s, nil
	}
	asked := h.change
	h.mu.Unlock()
	var list []devices.Watched
	var total int
	if f.listed() {
		var err error
		if list, total, err = h.cfg.Devices.Watched(ctx, f.watch(h.cfg.MaxDevices)); err != nil {
			return nil, err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.selections[key]
	if s == nil {
		s = &selection{key: key, filter: *f, readings: readings}
		h.selections[key] = s
		h.apply(s, list, total, asked)
		if len(h.selections) == 1 {
			h.awake()
		}
	}
	s.viewers++
	return s, nil
}

// leave counts a viewer out. What is watched stays watched for a while.
func (h *Hub) leave(s *selection) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.viewers--; s.viewers == 0 {
		s.left = time.Now()
	}
}

// apply makes these the devices of a selection. h.mu is held.
func (h *Hub) apply(s *selection, list []devices.Watched, total int, asked uint64) {
	entries := make([]*entry, 0, len(list))
	for i := range list {
		w := &list[i]
		e := h.entries[w.ID]
		if e == nil || e.name != w.Name { // renamed: to viewers another one
			e = &entry{id: w.ID, name: w.Name, session: -1, mark: storage.Mark{Device: w.ID, Time: storage.NothingKnown}}
			h.entries[w.ID] = e
		}
		h.see(e, w, asked)
		entries = append(entries, e)
	}
	// In Go's order, whatever the database's is.
	slices.SortFunc(entries, func(a, b *entry) int { return strings.Compare(a.name, b.name) })
	same := slices.Equal(entries, s.list) && s.changed != 0
	s.beyond = max(total-len(list), 0)
	if same {
		return
	}
	h.change++
	for _, e := range entries {
		e.users++
		if s.readings {
			if e.readers++; e.readers == 1 && e.from == 0 {
				e.from = h.change
			}
		}
	}
	h.release(s)
	s.list, s.changed = entries, h.change
	h.publish()
}

// release lets go of a selection's devices. h.mu is held.
func (h *Hub) release(s *selection) {
	for _, e := range s.list {
		e.users--
		if s.readings {
			if e.readers--; e.readers == 0 {
				h.values -= len(e.slots)
				e.slots, e.byLayout, e.whole, e.loaded, e.from = nil, nil, nil, false, 0 // rows goes on: viewers have counted
				e.mark = storage.Mark{Device: e.id, Time: storage.NothingKnown}
			}
		}
		if e.users == 0 && h.entries[e.id] == e {
			delete(h.entries, e.id)
		}
	}
	s.list = nil
}

// publish tells the store whose rows are watched. h.mu is held.
func (h *Hub) publish() {
	watched := make(map[int32]struct{}, len(h.entries))
	for id, e := range h.entries {
		if e.readers > 0 {
			watched[id] = struct{}{}
		}
	}
	h.cfg.Committed.Watch(watched)
	h.metrics.watched.Set(float64(len(watched)))
}

// forget drops selections that nobody has had for a while.
func (h *Hub) forget(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := len(h.selections)
	for key, s := range h.selections {
		if s.viewers == 0 && now.Sub(s.left) >= h.cfg.Resume {
			delete(h.selections, key)
			h.release(s)
		}
	}
	if len(h.selections) == before {
		return
	}
	h.publish()
	if len(h.selections) == 0 {
		clear(h.layouts)
		clear(h.later)
		h.ring.clear()
		h.asleep()
	}
}

// load makes sure that the stored readings of these devices are in the table.
// What was committed since they are watched is there, or will be; of the two the
// newer reading counts. One caller at a time asks the database.
func (h *Hub) load(ctx context.Context, list []*entry) error {
	if len(h.unloaded(list)) == 0 {
		return nil
	}
	select {
	case h.loading <- struct{}{}:
		defer func() { <-h.loading }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ids := h.unloaded(list)
	if len(ids) == 0 {
		return nil
	}
	var found []storage.LatestReading
	err := h.cfg.Readings.LatestOf(ctx, ids, func(r storage.LatestReading) error {
		found = append(found, r)
		return nil
	})
	if err != nil {
		return fmt.Errorf("load the last known values: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range found {
		r := &found[i]
		e := h.entries[r.Device]
		if e == nil || e.readers == 0 || e.loaded {
			continue
		}
		s := h.slotOf(e, r.Metric, r.Unit)
		if s == nil {
			continue
		}
		var text []byte
		if r.Text != nil {
			text = []byte(*r.Text)
		}
		s.bring(r.Time, 0, r.Value, text, e.from)
		e.whole = e.whole[:0]
		if r.Time > e.mark.Time {
			e.mark.Time, e.mark.Seq = r.Time, 0
		}
	}
	for _, id := range ids {
		if e := h.entries[id]; e != nil {
			e.loaded = true
		}
	}
	return nil
}

func (h *Hub) unloaded(list []*entry) []int32 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var ids []int32
	for _, e := range list {
		if !e.loaded && e.readers > 0 {
			ids = append(ids, e.id)
		}
	}
	return ids
}
