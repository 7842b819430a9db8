package ingest

import (
	"bytes"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// FuzzGuard sees that it makes no difference to the guard how a stream was cut
// into pieces, and that it finds exactly what a plain reading of the whole finds.
func FuzzGuard(f *testing.F) {
	f.Add(slices.Concat(masked(0x02, []byte("ab")), masked(0x89, nil), masked(0x00, nil), masked(0x80, []byte("c"))), uint8(3))
	f.Add(bytes.Repeat(masked(0x89, []byte("ping")), 30), uint8(7))
	f.Add(append(masked(0x02, nil), bytes.Repeat(masked(0x00, nil), 12)...), uint8(1))
	f.Add(append(masked(0x82, make([]byte, 300)), masked(0x8A, nil)...), uint8(100))
	f.Add([]byte{0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0}, uint8(5))
	f.Add([]byte{0x82, 2, 1, 2, 0x02, 126, 0, 1, 9, 0x00, 127, 0, 0, 0, 0, 0, 0, 0, 0}, uint8(2))
	f.Fuzz(func(t *testing.T, stream []byte, cut uint8) {
		cfg := Config{MaxFragments: 8, ControlRate: 1} // 20 control frames at once
		const now = int64(time.Second)

		var whole guard
		passed, reason := whole.scan(stream, now, &cfg)
		wantPassed, wantReason, underWay := readPlainly(stream, &cfg)
		require.Equal(t, wantReason, reason)
		require.Equal(t, wantPassed, passed)
		if reason == nil {
			require.Equal(t, underWay, whole.began.Load() != 0)
		}

		var pieces guard
		rest, total := stream, 0
		for size := int(cut)%7 + 1; len(rest) > 0; size = size%7 + 1 {
			n, again := pieces.scan(rest[:min(size, len(rest))], now, &cfg)
			total += n
			if again != nil {
				require.Equal(t, reason, again)
				require.Equal(t, passed, total)
				return
			}
			rest = rest[n:]
		}
		require.Nil(t, reason)
		require.Equal(t, whole.began.Load(), pieces.began.Load())
	})
}

// readPlainly does what guard does, with the whole stream at hand and no time
// passing.
func readPlainly(stream []byte, cfg *Config) (passed int, reason *CloseReason, underWay bool) {
	fragments, control := 0, 0
	for rest := stream; len(rest) > 0; {
		if len(rest) < 2 {
			return len(stream), nil, true
		}
		head, length := 2, uint64(rest[1]&0x7F)
		extended := map[uint64]int{126: 2, 127: 8}[length]
		if len(rest) < head+extended {
			return len(stream), nil, true
		}
		if extended > 0 {
			length = 0
			for _, b := range rest[2 : 2+extended] {
				length = length<<8 | uint64(b)
			}
		}
		head += extended
		if rest[1]&0x80 != 0 {
			head += 4
		}
		if len(rest) < head {
			return len(stream), nil, true
		}
		stopAt := len(stream) - len(rest) + head - 1
		if rest[0]&8 != 0 {
			if control++; control > 20*cfg.ControlRate {
				return stopAt, &closeFlood, true
			}
		} else if fragments++; fragments > cfg.MaxFragments {
			return stopAt, &closeFragments, true
		}
		if uint64(len(rest)-head) < length {
			return len(stream), nil, true
		}
		if rest[0]&0x88 == 0x80 {
			fragments = 0
		}
		rest = rest[head+int(length):]
	}
	return len(stream), nil, fragments > 0
}

func TestGuardAllowance(t *testing.T) {
	t.Parallel()
	cfg := Config{}.withDefaults()
	var g guard
	ping, now := masked(0x89, nil), int64(time.Second)
	send := func(n int) int {
		sent, reason := g.scan(bytes.Repeat(ping, n), now, &cfg)
		if reason != nil {
			require.Equal(t, &closeFlood, reason)
			g = guard{owed: g.owed}
		}
		return sent / len(ping)
	}
	require.Equal(t, 400, send(1000), "20 s of 20 a second at once")
	now += int64(2 * time.Second)
	require.Positive(t, send(30))
	now += int64(time.Hour)
	require.Equal(t, 400, send(1000), "and never more, after whatever silence")
	for range 10_000 {
		now += int64(time.Second)
		require.Equal(t, 20, send(20), "20 a second for ever")
	}
}

// A message that does not end is not borne for ever, whatever sign of life its
// bytes are; DATA in time is.
func TestGuardEndsAMessageThatTrickles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pipe(t, Config{})
		d := p.connect(t, 1)
		d.send(d.encoder.Hello(wire.Hello{Heartbeat: 30}))
		d.wait(opBinary)
		d.send(d.encoder.Layout(twoNumbers()))
		for seq := range uint64(60) { // ten minutes of messages that end
			time.Sleep(10 * time.Second)
			d.data(seq, 1)
		}
		d.raw(masked(0x02, d.frame(1000, 3)[:20])) // begins here
		start := time.Now()
		_ = d.conn.SetWriteDeadline(time.Time{})
		var trickle sync.WaitGroup
		// Also after a failure: in a bubble whose test is over no time passes any
		// more, and who sleeps there makes it panic instead of saying what failed.
		t.Cleanup(func() { d.conn.Close(); trickle.Wait() })
		trickle.Go(func() {
			for range 100 {
				if _, err := d.conn.Write(masked(0x00, nil)); err != nil {
					return
				}
				time.Sleep(10 * time.Second)
			}
		})
		farewell := d.wait(opClose)
		require.Equal(t, wire.CloseHeartbeat, farewell.code())
		require.Contains(t, string(farewell.payload), "took longer")
		between(t, start, 2*time.Minute, 30*time.Second+time.Second, farewell.at)
		synctest.Wait()
		require.Equal(t, wire.CloseHeartbeat, p.registry.endings()[0].Code)
		p.stop()
	})
}

// While it is the gateway that does not read, a message under way does not age.
func TestGuardDoesNotCountItsOwnWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pipe(t, Config{OpenTimeout: time.Hour})
		gate := make(chan struct{})
		p.registry.openGate = gate
		d := p.connect(t, 1)
		// The second message begins in the same read, and is left lying.
		d.raw(append(masked(0x82, d.encoder.Hello(wire.Hello{Heartbeat: 30})), 0x82))
		time.Sleep(30 * time.Minute)
		close(gate)
		d.wait(opBinary)
		time.Sleep(40 * time.Second)
		d.raw(masked(0x82, d.encoder.Layout(twoNumbers()))[1:])
		d.data(0, 3)
		for {
			if ack, err := d.decoder.Ack(d.wait(opBinary).payload); err == nil && ack.Next == 3 {
				break
			}
		}
		d.conn.Close()
		p.stop()
	})
}
