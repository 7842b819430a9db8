package live

import (
	"encoding/json"
	"time"

	"mooring/devices"
	"mooring/storage"
)

// entry is what is known of a watched device, for all viewers. Of Hub.mu.
type entry struct {
	id      int32
	name    string
	model   string
	labels  json.RawMessage
	users   int    // selections that hold it
	readers int    // of them, those that want readings
	from    uint64 // the change since when its readings are followed

	online   bool
	since    time.Time
	reason   string
	gateway  string
	session  int64
	presence uint64 // the change that brought these

	loaded   bool   // what is stored is in slots
	rows     uint64 // committed since from
	readings uint64 // the change that brought the newest of slots
	slots    []*slot
	byLayout map[int32][]*slot // by position; nil: no room was left
	whole    []byte            // all of slots, if readings brought all of them; else empty
	mark     storage.Mark      // of the newest reading
	remote   time.Time         // until then another server may have rows of it
}

// slot is the newest reading of a channel.
type slot struct {
	channel string
	unit    string
	known   bool
	time    int64
	seq     uint64
	change  uint64 // that brought it
	encoded []byte // as appendReading has it
}

// bring takes a reading over unless a newer one is known.
func (s *slot) bring(at int64, seq uint64, number float64, text []byte, change uint64) {
	if s.known && (at < s.time || at == s.time && seq <= s.seq) {
		return
	}
	s.known, s.time, s.seq, s.change = true, at, seq, change
	s.encoded = appendReading(s.encoded[:0], s.channel, at, number, text)
}

// slotOf finds or makes the slot of a channel; nil: there are too many.
func (h *Hub) slotOf(e *entry, channel, unit string) *slot {
	for _, s := range e.slots {
		if s.channel == channel {
			return s
		}
	}
	if h.values >= h.cfg.MaxValues {
		h.metrics.skipped.WithLabelValues("channels").Inc()
		h.crowded++
		return nil
	}
	h.values++
	s := &slot{channel: channel, unit: unit}
	e.slots = append(e.slots, s)
	return s
}

// slotsOf are those of a layout, by position; false: nobody knows it yet.
func (h *Hub) slotsOf(e *entry, layout int32) ([]*slot, bool) {
	slots, ok := e.byLayout[layout]
	if ok {
		return slots, true
	}
	channels, ok := h.layouts[layout]
	if !ok {
		return nil, false
	}
	slots = make([]*slot, len(channels))
	for i, channel := range channels {
		slots[i] = h.slotOf(e, channel.Name, channel.Unit)
	}
	if e.byLayout == nil {
		e.byLayout = make(map[int32][]*slot, 1)
	}
	e.byLayout[layout] = slots
	return slots, true
}

// merge brings news into the table as part of a change; true: somebody may see it.
func (h *Hub) merge(news *storage.News, change uint64) bool {
	e := h.entries[news.Device]
	if e == nil || e.readers == 0 {
		return false
	}
	slots, ok := h.slotsOf(e, news.Layout)
	if !ok {
		h.putOff(news)
		return false
	}
	for i := range min(len(news.Readings), len(slots)) {
		r := &news.Readings[i]
		if !r.Known {
			continue
		}
		e.mark.Device = e.id
		if r.Time > e.mark.Time || r.Time == e.mark.Time && r.Seq > e.mark.Seq {
			e.mark.Time, e.mark.Seq = r.Time, r.Seq
		}
		if slots[i] != nil {
			slots[i].bring(r.Time, r.Seq, r.Number, r.Text, change)
		}
	}
	e.rows += uint64(news.Rows)
	e.readings = change
	e.join(change)
	return true
}

// join encodes all channels as one piece if a change brought them all, as that of
// a device with one layout does: then most viewers are told them all, and copy
// one piece instead of one for each channel (decision 079).
func (e *entry) join(change uint64) {
	e.whole = e.whole[:0]
	size := 0
	for _, s := range e.slots {
		if s.change != change {
			return
		}
		size += len(s.encoded)
	}
	if size > messageBytes {
		return
	}
	for i, s := range e.slots {
		if i > 0 {
			e.whole = append(e.whole, ',')
		}
		e.whole = append(e.whole, s.encoded...)
		e.whole = append(e.whole, '}')
	}
}

// putOff keeps news of a layout that must be asked for first: of each device and
// layout one.
func (h *Hub) putOff(news *storage.News) {
	key := [2]int32{news.Device, news.Layout}
	kept := h.later[key]
	if kept == nil {
		kept = &storage.News{Device: news.Device, Layout: news.Layout}
		h.later[key] = kept
	}
	kept.Rows += news.Rows
	for len(kept.Readings) < len(news.Readings) {
		kept.Readings = append(kept.Readings, storage.Newest{})
	}
	for i, r := range news.Readings {
		old := &kept.Readings[i]
		if r.Known && (!old.Known || r.Time > old.Time || r.Time == old.Time && r.Seq > old.Seq) {
			r.Text = append([]byte(nil), r.Text...)
			if news.Readings[i].Text == nil {
				r.Text = nil
			}
			*old = r
		}
	}
	signal(h.ask)
}

// fold brings what this server committed into the table, as one change.
func (h *Hub) fold() {
	h.mu.Lock()
	defer h.mu.Unlock()
	next, changed := h.change+1, false
	h.cfg.Committed.Take(func(news storage.News) {
		changed = h.merge(&news, next) || changed
	})
	if changed {
		h.change = next
	}
}

// see takes over what the directory says of a device, unless something newer than
// asked, the last change when it was asked, is known. h.mu is held.
func (h *Hub) see(e *entry, w *devices.Watched, asked uint64) {
	e.model, e.labels = w.Model, w.Labels
	if w.Gateway != h.cfg.Gateway && w.Gateway != "" {
		e.remote = time.Now().Add(remoteFor)
	}
	h.bringPresence(e, w.Session, w.Online, w.Since, w.Reason, asked)
	e.gateway = w.Gateway
}

// bringPresence takes over a device's presence as known at a change. h.mu is held.
func (h *Hub) bringPresence(e *entry, session int64, online bool, since time.Time, reason string, asked uint64) {
	switch {
	case session < e.session, e.presence > asked && session == e.session:
		return // known better
	case session == e.session && online == e.online && since.Equal(e.since) && reason == e.reason:
		return
	}
	e.session, e.online, e.since, e.reason = session, online, since, reason
	h.change++
	e.presence = h.change
}

// presenceChanged takes news of devices that came or went.
func (h *Hub) presenceChanged(news []devices.PresenceChange) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range news {
		change := &news[i]
		e := h.entries[change.DeviceID]
		if e == nil || change.Removed || change.Session != e.session && change.Online {
			// A new device perhaps, or one at another server: the directory knows.
			h.renew = true
		}
		if e == nil || change.Removed {
			continue
		}
		if change.Session != e.session && change.Online {
			e.remote = time.Now().Add(remoteFor)
		}
		h.bringPresence(e, change.Session, change.Online, change.Since, change.Reason, h.change)
	}
	return nil
}
