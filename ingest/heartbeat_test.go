package ingest

import (
	"encoding/binary"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// code is the code of a close frame.
func (h heard) code() wire.CloseCode { return wire.CloseCode(binary.BigEndian.Uint16(h.payload)) }

// between expects a moment after start, up to late after that.
func between(t *testing.T, start time.Time, after, late time.Duration, at time.Time) {
	t.Helper()
	passed := at.Sub(start)
	require.GreaterOrEqual(t, passed, after)
	require.LessOrEqual(t, passed, after+late)
}

// A link on which nothing comes is pinged and dropped within one tick of
// max(1.5 hb, hb + 10 s).
func TestHeartbeatFindsADeadLink(t *testing.T) {
	for beat, dead := range map[int]time.Duration{
		5: 15 * time.Second, 20: 30 * time.Second, 30: 45 * time.Second, 120: 180 * time.Second,
		900: 1350 * time.Second, 2000: 1350 * time.Second, 1: 15 * time.Second, 0: 45 * time.Second,
	} {
		t.Run(strconv.Itoa(beat), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := pipe(t, Config{Tick: time.Second})
				d := p.connect(t, 1)
				d.send(d.encoder.Hello(wire.Hello{Heartbeat: beat}))
				d.wait(opBinary)
				start := time.Now()
				synctest.Wait()
				ping := d.wait(opPing)
				require.Empty(t, ping.payload, "some clients hand other Pings to the application")
				between(t, start, 0, 900*time.Second+time.Second, ping.at)
				farewell := d.wait(opClose)
				require.Equal(t, wire.CloseHeartbeat, farewell.code())
				require.NotContains(t, string(farewell.payload), "pipe")
				between(t, start, dead, time.Second, farewell.at)
				synctest.Wait()
				require.Equal(t, wire.CloseHeartbeat, p.registry.endings()[0].Code)
				require.InDelta(t, 1, counted(t, p.gateway.metrics.heartbeatsMissed), 0)
				p.stop()
			})
		})
	}
}

// Any byte is a sign of life: Pongs, and also a long frame that trickles in.
func TestHeartbeatIsContentWithAnyByte(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pipe(t, Config{MessageTimeout: 24 * time.Hour})
		d := p.connect(t, 1)
		d.send(d.encoder.Hello(wire.Hello{Heartbeat: 30}))
		d.wait(opBinary)
		for range 20 {
			d.wait(opPing)
			d.raw(masked(0x8A, nil))
		}
		d.send(d.encoder.Layout(twoNumbers()))
		slow := masked(0x82, d.frame(0, 3))
		for _, b := range slow {
			time.Sleep(40 * time.Second)
			d.raw([]byte{b})
		}
		for {
			if _, err := d.decoder.Ack(d.wait(opBinary).payload); err == nil {
				break
			}
		}
		d.conn.Close()
		p.stop()
	})
}

// A device that sends is not pinged while acks go out, and is when they do not:
// it must hear that the server lives although the database does not.
func TestHeartbeatPingsWhenTheServerWasSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pipe(t, Config{})
		d := p.connect(t, 1)
		d.send(d.encoder.Hello(wire.Hello{Heartbeat: 30}))
		d.wait(opBinary)
		d.send(d.encoder.Layout(twoNumbers()))
		pings := 0
		for seq := range uint64(60) { // ten minutes of rows
			time.Sleep(10 * time.Second)
			d.data(seq, 1)
			for (<-d.got).opcode == opPing {
				pings++
			}
		}
		require.LessOrEqual(t, pings, 1, "acks, no Pings but the first, jittered one")
		p.store.failed.Store(true)
		start := time.Now()
		for seq := range uint64(6) {
			time.Sleep(10 * time.Second)
			d.data(100+seq, 1)
		}
		message := <-d.got
		require.Equal(t, byte(opPing), message.opcode)
		between(t, start, 30*time.Second, time.Second, message.at)
		d.conn.Close()
		ctx, cancel := contextWith(time.Second)
		defer cancel()
		_ = p.gateway.Stop(ctx)
	})
}

// First Pings of devices that came at the same moment are spread over a
// heartbeat.
func TestHeartbeatJittersTheFirstPing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pipe(t, Config{})
		const devices = 60
		var all []*pipedDevice
		for n := range devices {
			d := p.connect(t, n)
			d.send(d.encoder.Hello(wire.Hello{}))
			all = append(all, d)
		}
		synctest.Wait()
		start := time.Now()
		early := 0
		for _, d := range all {
			at := d.wait(opPing).at
			between(t, start, 0, 31*time.Second, at)
			if at.Sub(start) < 15*time.Second {
				early++
			}
			d.conn.Close()
		}
		require.Greater(t, early, devices/6)
		require.Less(t, early, devices*5/6)
		p.stop()
	})
}

func TestFirstFrameMustComeInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pipe(t, Config{})
		d := p.connect(t, 1)
		start := time.Now()
		time.Sleep(5 * time.Second)
		d.raw(masked(0x89, nil)) // a Ping is no frame
		farewell := d.wait(opClose)
		require.Equal(t, wire.CloseHeartbeat, farewell.code())
		between(t, start, 10*time.Second, time.Second, farewell.at)
		synctest.Wait()
		require.Zero(t, p.registry.opened())
		require.Empty(t, p.registry.endings(), "what was not opened is not closed")
		require.Zero(t, p.gateway.Stats().Connections)
		p.stop()
	})
}

// While the registry is away a session waits, is not judged dead, and gives up
// after OpenTimeout.
func TestOpenWaitsForTheRegistry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pipe(t, Config{OpenTimeout: 10 * time.Minute})
		p.registry.openGate = make(chan struct{})
		patient, mute := p.connect(t, 1), p.connect(t, 2)
		patient.send(patient.encoder.Hello(wire.Hello{Heartbeat: 5}))
		time.Sleep(5 * time.Minute)
		require.Equal(t, wire.CloseHeartbeat, mute.wait(opClose).code(), "the other one never spoke")
		close(p.registry.openGate)
		_, err := patient.decoder.Welcome(patient.wait(opBinary).payload)
		require.NoError(t, err)

		p.registry.mu.Lock()
		p.registry.openGate = make(chan struct{})
		p.registry.mu.Unlock()
		third := p.connect(t, 3)
		third.send(third.encoder.Hello(wire.Hello{}))
		start := time.Now()
		farewell := third.wait(opClose)
		require.Equal(t, wire.CloseInternal, farewell.code())
		between(t, start, 10*time.Minute, time.Second, farewell.at)
		patient.conn.Close()
		p.stop()
	})
}

func TestProgressIsRecorded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pipe(t, Config{})
		d := p.connect(t, 1)
		d.send(d.encoder.Hello(wire.Hello{}))
		d.send(d.encoder.Layout(twoNumbers()))
		d.data(10, 5)
		time.Sleep(31 * time.Second)
		synctest.Wait()
		p.registry.mu.Lock()
		all := slices.Clone(p.registry.progress)
		p.registry.mu.Unlock()
		require.Len(t, all, 1)
		progress := all[0]
		require.Equal(t, uint64(15), progress.Next)
		require.True(t, progress.HasNext)
		require.Equal(t, uint64(5), progress.Counts.RowsCommitted)
		require.WithinDuration(t, time.Now(), progress.LastSeen, 32*time.Second)
		d.conn.Close()
		synctest.Wait()
		p.stop()
	})
}

// An unsolicited PING frame, for clients that see no WebSocket Pings.
func TestPingFrameIsAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pipe(t, Config{})
		d := p.connect(t, 1)
		d.send(d.encoder.Ping(wire.Ping{Echo: 77})) // no HELLO: an empty one is implied
		_, err := d.decoder.Welcome(d.wait(opBinary).payload)
		require.NoError(t, err, "WELCOME is the first frame")
		pong, err := d.decoder.Pong(d.wait(opBinary).payload)
		require.NoError(t, err)
		require.Equal(t, uint64(77), pong.Echo)
		require.Equal(t, time.Now().UnixMilli(), pong.Time)
		d.conn.Close()
		p.stop()
	})
}

// BenchmarkSweep looks at 100,000 sessions once: idle ones, and ones that are
// all due at the same tick.
func BenchmarkSweep(b *testing.B) {
	registry := newFakeRegistry()
	g, err := New(Config{}, registry, registry, newFakeStore())
	require.NoError(b, err)
	const sessions = 100_000
	for n := range sessions {
		s := &session{gateway: g, device: Device{ID: int32(n)}, link: newLink(nil, nil, g.clock), flushing: true}
		s.framed.Store(true)
		s.heartbeat.Store(int64(30 * time.Second))
		g.hub.add(s)
	}
	for name, due := range map[string]int64{"idle": 1 << 62, "all due": 0} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				for i := range g.hub.slots {
					g.hub.slots[i].due = due
				}
				b.StartTimer()
				g.hub.sweep(g.clock.now(), time.Second, registry.Progress)
			}
		})
	}
}

// BenchmarkHeartbeat looks at 15,000 sessions for a whole heartbeat, tick by tick,
// in which each of them is pinged once, answers, and has its progress recorded.
// Pings are only asked for: writing them is the flushers' work.
func BenchmarkHeartbeat(b *testing.B) {
	registry := newFakeRegistry()
	g, err := New(Config{}, registry, registry, newFakeStore())
	require.NoError(b, err)
	const sessions = 15_000
	for n := range sessions {
		s := &session{gateway: g, device: Device{ID: int32(n)}, link: newLink(nil, nil, g.clock), flushing: true}
		s.framed.Store(true)
		s.number.Store(int64(n + 1))
		s.heartbeat.Store(int64(g.cfg.Heartbeat))
		g.hub.add(s)
	}
	ticks := int(g.cfg.Heartbeat / g.cfg.Tick)
	now, pings := g.clock.now(), 0
	var sweeping time.Duration
	beat := func() {
		for range ticks {
			now += int64(g.cfg.Tick)
			begun := time.Now()
			g.hub.sweep(now, time.Second, func(SessionProgress) {})
			sweeping += time.Since(begun)
			for i := range g.hub.slots {
				if s := g.hub.slots[i].session; s.outbox.ping {
					s.outbox.ping = false
					s.link.heard.Store(now)
					s.link.sent.Store(now)
					pings++
				}
			}
		}
	}
	beat() // the first silence is jittered
	sweeping, pings = 0, 0
	for b.Loop() {
		beat()
	}
	require.InDelta(b, sessions, pings/b.N, sessions/5)
	each := sweeping / time.Duration(b.N)
	b.ReportMetric(float64(each.Microseconds()), "sweep-µs/heartbeat")
	b.ReportMetric(100*each.Seconds()/g.cfg.Heartbeat.Seconds(), "%core")
}

// Rows without a time have that of their frame's arrival, however long the frame
// then waits for room; and the waiting counts as ack latency.
func TestRowsWithoutTimeHaveThatOfTheArrival(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pipe(t, Config{})
		d := p.connect(t, 1)
		d.send(d.encoder.Hello(wire.Hello{}))
		d.send(d.encoder.Layout(twoNumbers()))
		sh := p.gateway.shards[1]
		require.NoError(t, sh.reserve(t.Context(), nil, sh.limit))
		frame, err := d.encoder.Data(&wire.Data{Seq: 0, Layout: 1, ServerTime: true, Step: 1000, Rows: rows(0, 1)})
		require.NoError(t, err)
		synctest.Wait()
		arrived := time.Now()
		d.send(frame)
		time.Sleep(5 * time.Minute)
		require.Equal(t, 1, p.gateway.Stats().Blocked)
		sh.release(sh.limit)
		synctest.Wait()
		require.Equal(t, arrived.UnixMicro(), p.store.stored(1)[0].time)
		require.GreaterOrEqual(t, p.gateway.Stats().AckP50, 5*time.Minute)
		time.Sleep(10 * time.Second) // its silence starts anew
		require.NotNil(t, p.gateway.hub.current(1))
		d.data(5, 1)
		synctest.Wait()
		require.Len(t, p.store.stored(1), 2)
		d.conn.Close()
		p.stop()
	})
}
