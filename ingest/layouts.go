package ingest

import (
	"context"
	"errors"
	"slices"
	"time"

	"mooring/wire"
)

// maxLayouts is the number of layouts of one connection (PROTOCOL §10).
const maxLayouts = 16

// layoutEntry is a layout as one connection knows it.
type layoutEntry struct {
	layout  wire.Layout
	stored  int32     // the store's number for it, once known
	known   bool      // stored is set
	refused wire.Code // why the store does not take it; 0: it does
}

// declare keeps a layout that the device declared. The store is asked for its
// number when the first DATA needs it.
func (s *session) declare(layout wire.Layout) (*layoutEntry, *wire.LayoutError) {
	if layout.Name == "" {
		layout.Name = wire.DefaultLayoutName(s.model)
	}
	entry := s.findLayout(layout.Number)
	if entry == nil && layout.Number >= wire.FirstInferred {
		entry = s.findInferred(layout.Channels)
	}
	if entry != nil {
		*entry = layoutEntry{layout: layout} // declared anew, or its kinds are known now
		return entry, nil
	}
	if len(s.layouts) >= maxLayouts {
		return nil, &wire.LayoutError{
			Layout: layout.Number, Channel: wire.WholeRow, Code: wire.CodeQuota,
			Err: errors.New("more than 16 layouts on one connection"),
		}
	}
	s.layouts = append(s.layouts, layoutEntry{layout: layout})
	return &s.layouts[len(s.layouts)-1], nil
}

// undeclare forgets a number whose new declaration was refused (PROTOCOL §4.2.2).
func (s *session) undeclare(number uint32) {
	s.layouts = slices.DeleteFunc(s.layouts, func(e layoutEntry) bool { return e.layout.Number == number })
}

func (s *session) findLayout(number uint32) *layoutEntry {
	for i := range s.layouts {
		if s.layouts[i].layout.Number == number {
			return &s.layouts[i]
		}
	}
	return nil
}

// findInferred finds what was declared on the fly with the same channel names:
// when a value first shows a channel's kind, the codec makes it a new layout.
func (s *session) findInferred(channels []wire.Channel) *layoutEntry {
	for i := range s.layouts {
		known := &s.layouts[i].layout
		if known.Number >= wire.FirstInferred && slices.EqualFunc(known.Channels, channels,
			func(a, b wire.Channel) bool { return a.Name == b.Name }) {
			return &s.layouts[i]
		}
	}
	return nil
}

// resolve asks the store for the layout's number until there is an answer or
// the session ends.
func (s *session) resolve(entry *layoutEntry) error {
	if entry.known || entry.refused != 0 {
		return nil
	}
	// Others can use the room while this one waits for something else.
	room := s.room
	s.room = 0
	s.shard.release(room)
	if err := s.ask(entry); err != nil {
		return err
	}
	if err := s.shard.reserve(s.lifetime(), s, room); err != nil {
		return err
	}
	s.room = room
	return nil
}

// ask is resolve's waiting.
func (s *session) ask(entry *layoutEntry) error {
	s.hold()
	defer s.resume()
	ctx, end := s.waiting(0)
	defer end()
	pause := 100 * time.Millisecond
	for {
		stored, err := s.gateway.store.ResolveLayout(ctx, s.device.ID, &entry.layout)
		switch {
		case err == nil:
			entry.stored, entry.known = stored, true
			return nil
		case s.ending.Load():
			return s.lifetime().Err()
		case errors.Is(err, ErrLayoutRefused):
			entry.refused = wire.CodeUnsupported
			s.gateway.cfg.Logger.Debug("layout refused by the store", "device", s.device.Name,
				"layout", entry.layout.Name, "error", err)
			s.rejectLayout(&wire.LayoutError{
				Layout: entry.layout.Number, Channel: wire.WholeRow, Code: entry.refused, Err: err,
			})
			return nil
		}
		if skipped, due := s.gateway.unresolved.due(s.link.clock.now()); due {
			s.gateway.cfg.Logger.Warn("layout not resolved; trying again", "device", s.device.Name, "error", err, "others", skipped)
		}
		if !sleep(ctx, pause) {
			return s.lifetime().Err()
		}
		pause = min(2*pause, 5*time.Second)
	}
}

// rejectLayout tells the device; on-the-fly layouts have no number it knows.
func (s *session) rejectLayout(fault *wire.LayoutError) {
	s.gateway.metrics.layoutsRejected.Inc()
	if fault.Layout >= wire.FirstInferred {
		return
	}
	s.enqueue(func(encoder *wire.Encoder) []byte { return encoder.Notice(fault.Notice()) })
}

// sleep waits for d; false: ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
