package live

import (
	"context"
	"slices"
	"strconv"
	"time"
)

// place is where the telling of a list of devices stands: at a channel of one.
type place struct{ device, channel int }

// look does something with the table, which stays as it is meanwhile. What panics
// there ends one viewer; the lock is given back.
func (h *Hub) look(do func()) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	do()
}

// scan tells of devices, a message's worth at a time. due says whether there is
// something to tell of one; one appends it from a channel on, as much as a message
// takes, and gives the channel to go on with, 0 if the device is done. Both are
// called with the table locked, begin and put are not: a viewer that does not
// read holds up nobody.
func (v *viewer) scan(kind, field string, count int, due func(i int) bool, one func(dst []byte, i, channel int) ([]byte, int)) error {
	for at := (place{}); ; {
		v.hub.look(func() {
			for at.channel == 0 && at.device < count && !due(at.device) {
				at.device++
			}
		})
		if at.device >= count {
			return nil
		}
		dst, err := v.out.begin(kind)
		if err != nil {
			return err
		}
		dst = append(dst, `,"`...)
		dst = append(dst, field...)
		dst = append(dst, `":[`...)
		v.hub.look(func() {
			for first := true; at.device < count && v.out.size(dst) < messageBytes; {
				if at.channel == 0 && !due(at.device) {
					at.device++
					continue
				}
				if !first {
					dst = append(dst, ',')
				}
				first = false
				if dst, at.channel = one(dst, at.device, at.channel); at.channel == 0 {
					at.device++
				}
			}
		})
		v.out.put(append(dst, ']'))
	}
}

// appendChannels appends the readings of a device that changed behind a change,
// from a place on, and gives the place to go on with, 0 if that was all.
func (v *viewer) appendChannels(dst []byte, e *entry, from int, behind uint64, units bool) ([]byte, int) {
	begun, first := len(dst), true
	dst = append(dst, `"channels":{`...)
	if len(e.whole) > 0 && from == 0 && e.readings > behind && !units && v.filter.channels == nil {
		return append(append(dst, e.whole...), "}}"...), 0
	}
	for i := from; i < len(e.slots); i++ {
		s := e.slots[i]
		if s.change <= behind || !v.filter.wants(s.channel) {
			continue
		}
		if !first && len(dst)-begun >= messageBytes {
			return append(dst, "}}"...), i
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, s.encoded...)
		if units && s.unit != "" {
			dst = append(dst, `,"unit":`...)
			dst = appendText(dst, s.unit)
		}
		dst = append(dst, '}')
	}
	return append(dst, "}}"...), 0
}

// tellDevices tells all about devices, once what is stored of them is known.
func (v *viewer) tellDevices(ctx context.Context, list []*entry) error {
	if v.filter.events&(eventReadings|eventPresence) == 0 {
		return nil
	}
	for part := range slices.Chunk(list, snapshotPart) {
		if v.filter.events&eventReadings != 0 {
			if err := v.load(ctx, part); err != nil {
				return err
			}
		}
		all := func(int) bool { return true }
		err := v.scan("snapshot", "devices", len(part), all, func(dst []byte, i, channel int) ([]byte, int) {
			e := part[i]
			dst = append(dst, `{"device":`...)
			dst = appendText(dst, e.name)
			dst = append(dst, `,"model":`...)
			dst = appendText(dst, e.model)
			dst = append(dst, `,"labels":`...)
			if len(e.labels) == 0 {
				dst = append(dst, "{}"...)
			} else {
				dst = append(dst, e.labels...)
			}
			dst = appendPresence(dst, e)
			if v.filter.events&eventReadings == 0 {
				return append(dst, '}'), 0
			}
			return v.appendChannels(append(dst, ','), e, channel, 0, true)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func appendPresence(dst []byte, e *entry) []byte {
	dst = append(dst, `,"online":`...)
	dst = strconv.AppendBool(dst, e.online)
	dst = append(dst, `,"since":`...)
	dst = appendTime(dst, e.since)
	dst = append(dst, `,"reason":`...)
	return appendText(dst, e.reason)
}

// tellReadings tells the newest value of each channel that has one the viewer
// does not know.
func (v *viewer) tellReadings(uint64) error {
	if v.filter.events&eventReadings == 0 {
		return nil
	}
	due := func(i int) bool { return v.list[i].readings > v.told }
	return v.scan("readings", "readings", len(v.list), due, func(dst []byte, i, channel int) ([]byte, int) {
		e := v.list[i]
		dst = append(dst, `{"device":`...)
		dst = appendText(dst, e.name)
		dst = append(dst, `,"rows":`...)
		dst = strconv.AppendUint(dst, uint64(uint32(e.rows)-v.counts[i]), 10)
		v.counts[i] = uint32(e.rows)
		return v.appendChannels(append(dst, ','), e, channel, v.told, false)
	})
}

// tellPresence tells the last state of each device that came or went.
func (v *viewer) tellPresence(uint64) error {
	if v.filter.events&eventPresence == 0 {
		return nil
	}
	for i := 0; ; i++ {
		v.hub.look(func() {
			for i < len(v.list) && v.list[i].presence <= v.told {
				i++
			}
		})
		if i >= len(v.list) {
			return nil
		}
		dst, err := v.out.begin("presence")
		if err != nil {
			return err
		}
		v.hub.look(func() {
			dst = append(dst, `,"device":`...)
			dst = appendText(dst, v.list[i].name)
			dst = appendPresence(dst, v.list[i])
		})
		v.out.put(dst)
	}
}

// tellEvents tells commands and refusals, and how many of them are gone.
func (v *viewer) tellEvents(uint64) error {
	if v.filter.events&(eventCommands|eventRefusals) == 0 {
		return nil
	}
	h := v.hub
	for {
		var next event
		var last, gone uint64
		h.look(func() {
			var list []event
			list, gone = h.ring.after(v.event)
			last = h.ring.last
			for i := range list {
				if list[i].kind&v.filter.events != 0 && (list[i].device == "" || v.selection.holds(list[i].device)) {
					next = list[i]
					return
				}
			}
		})
		if gone > 0 {
			v.event += gone
			if err := v.tellSkipped("events", gone); err != nil {
				return err
			}
		}
		if next.number == 0 {
			v.event = last
			return nil
		}
		v.event = next.number
		dst, err := v.out.begin(next.name)
		if err != nil {
			return err
		}
		v.out.put(append(dst, next.fields...))
	}
}

// tellFigures tells the fleet's, if there are newer ones.
func (v *viewer) tellFigures(uint64) error {
	h := v.hub
	if v.filter.events&eventFleet == 0 {
		return nil
	}
	h.mu.RLock()
	figured := h.figured
	h.mu.RUnlock()
	if figured == v.figures {
		return nil
	}
	v.figures = figured
	dst, err := v.out.begin("fleet")
	if err != nil {
		return err
	}
	h.mu.RLock()
	dst = append(dst, h.figures...)
	h.mu.RUnlock()
	v.out.put(dst)
	return nil
}

// countPace keeps count of viewers that look often. h.mu is held.
func (h *Hub) countPace(every time.Duration, by int) {
	if every < time.Second {
		h.fast += by
	}
}
