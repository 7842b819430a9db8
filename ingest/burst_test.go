package ingest

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// sleeper is a device whose connection is at rest, and whose timers will not see to
// that a second time.
func sleeper(t *testing.T) (*server, *device, *session) {
	t.Helper()
	cfg := quick()
	cfg.RestAfter = time.Hour
	cfg.Window = 64
	sv := serve(t, cfg, newFakeStore())
	d := sv.join(t, 1)
	d.data(0, 1)
	d.ackUpTo(1) // the timers leave it alone now
	s := sv.gateway.hub.current(1)
	s.link.nod()
	sv.rests(t, 1)
	return sv, d, s
}

// frames gives so many frames of rows from seq on, as a client's messages.
func (d *device) frames(seq uint64, frames, each int) (stream []byte) {
	for range frames {
		stream = append(stream, masked(finBinary, d.frame(seq, each))...)
		seq += uint64(each)
	}
	return stream
}

// What comes in one piece to a connection at rest is handled, and it rests again at
// once. What comes again soon finds gws, which stays.
func TestABurstWakesNobodyUp(t *testing.T) {
	t.Parallel()
	sv, d, s := sleeper(t)
	d.raw(d.frames(1, 16, 10))
	d.ackUpTo(161)
	sv.rests(t, 1)
	require.Nil(t, s.link.reader, "gws was not asked")

	d.raw(d.frames(161, 16, 10))
	d.ackUpTo(321)
	require.Zero(t, sv.gateway.Stats().Resting, "it is busy")
	require.Len(t, sv.store.stored(1), 321)
	require.Zero(t, sv.gateway.bursting.Load())
}

// What is not a plain message, or too much, goes on with gws, and nothing of it is lost
// or looked at twice.
func TestWhatABurstLeavesIsForGws(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(d *device) (stream, later []byte){
		"half a frame": func(d *device) (stream, later []byte) {
			whole := d.frames(1, 3, 10)
			return whole[:len(whole)-20], whole[len(whole)-20:]
		},
		"a header": func(d *device) (stream, later []byte) {
			whole := d.frames(1, 3, 10)
			return whole[:len(d.frames(1, 2, 10))+2], whole[len(d.frames(1, 2, 10))+2:]
		},
		"a Ping": func(d *device) (stream, later []byte) {
			return slices.Concat(d.frames(1, 1, 10), masked(0x80|opPing, []byte("x")), d.frames(11, 2, 10)), nil
		},
		"fragments": func(d *device) (stream, later []byte) {
			frame := slices.Clone(d.frame(11, 20)) // the encoder's
			return slices.Concat(d.frames(1, 1, 10), masked(0x02, frame[:50])), masked(0x80, frame[50:])
		},
		"more than fits": func(d *device) (stream, later []byte) {
			return append(d.frames(1, 2, 10), d.frames(21, 1, 10)...), d.frames(31, 30, 200)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sv, d, s := sleeper(t)
			stream, later := test(d)
			if name == "more than fits" {
				stream, later = append(stream, later...), nil
				require.Greater(t, len(stream), 2*burstBytes)
			}
			d.raw(stream)
			if later != nil {
				eventually(t, func() bool { return s.link.guard.began.Load() != 0 }, "the first part is in")
				d.raw(later)
			}
			want := 31
			if len(stream) > burstBytes {
				want = 31 + 30*200
			}
			eventually(t, func() bool { return len(sv.store.stored(1)) == want }, "all is stored")
			eventually(t, s.link.guard.idle, "guard is where gws is")
		})
	}
}

// A burst is judged as anything else: what came before a breach counts.
func TestABreachInABurst(t *testing.T) {
	t.Parallel()
	sv, d, _ := sleeper(t)
	d.raw(append(d.frames(1, 2, 10), slices.Repeat(masked(0x80|opPong, []byte("x")), 2000)...))
	d.closesWith(closeFlood.Code, true)
	eventually(t, func() bool { return len(sv.store.stored(1)) == 21 }, "what came before is stored")

	sv, d, _ = sleeper(t)
	d.raw(slices.Concat(d.frames(1, 2, 10), masked(0x81, []byte("text")), d.frames(21, 1, 10)))
	d.closesWith(closeText.Code, true)
	eventually(t, func() bool { return len(sv.store.stored(1)) == 21 }, "what came before is stored")
}

// A fault of ours in a burst ends this session alone.
func TestAPanicInABurst(t *testing.T) {
	t.Parallel()
	sv, d, _ := sleeper(t)
	sv.gateway.store = panickyStore{sv.store}
	d.raw(d.frames(1, 2, 10))
	d.closesWith(wire.CloseInternal, true)
	eventually(t, func() bool { return sv.gateway.Stats().Connections == 0 }, "it has left")
	require.Zero(t, sv.gateway.bursting.Load())
	require.InDelta(t, 1, counted(t, sv.gateway.metrics.panics), 0)
}

// Those that find all places for bursts taken are handled all the same.
func TestBurstsAreBounded(t *testing.T) {
	t.Parallel()
	sv, d, _ := sleeper(t)
	sv.gateway.bursting.Add(maxBursts)
	d.raw(d.frames(1, 16, 10))
	d.ackUpTo(161)
	require.Zero(t, sv.gateway.Stats().Resting, "gws reads")
	require.EqualValues(t, maxBursts, sv.gateway.bursting.Load())
}

// Everybody whose Ping is due gets it from the same look at the timers, one each.
func TestPingsGoOutTogether(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.Heartbeat = MaxHeartbeat
	sv := serve(t, cfg, newFakeStore())
	const devices = manyLetters + 20
	var all []*device
	for n := range devices {
		d := sv.join(t, n)
		d.data(0, 1)
		d.ackUpTo(1)
		all = append(all, d)
	}
	h := sv.gateway.hub
	h.mu.Lock()
	for i := range h.slots {
		s := h.slots[i].session
		s.link.sent.Store(s.link.clock.now() - s.heartbeat.Load())
		h.slots[i].due = 0
	}
	h.mu.Unlock()
	for n, d := range all {
		opcode, payload, err := d.message()
		require.NoError(t, err, "device %d", n)
		require.Equal(t, byte(opPing), opcode)
		require.Empty(t, payload)
		d.data(1, 1) // and acks go out as before
		d.ackUpTo(2)
	}
}
