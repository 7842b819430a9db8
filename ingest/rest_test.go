package ingest

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// restless is a configuration with which connections rest at every opportunity.
func restless() Config {
	cfg := quick()
	cfg.Tick, cfg.RestAfter = time.Millisecond, time.Millisecond
	return cfg
}

// rests waits until n connections are at rest.
func (sv *server) rests(tb testing.TB, n int) {
	tb.Helper()
	eventually(tb, func() bool { return sv.gateway.Stats().Resting == n }, strconv.Itoa(n)+" connections rest")
}

func TestRestHoldsNothingAndLosesNothing(t *testing.T) {
	t.Parallel()
	sv := serve(t, restless(), newFakeStore())
	d := sv.join(t, 1)
	for n := range uint64(20) {
		sv.rests(t, 1)
		d.data(n, 1)
		d.ackUpTo(n + 1)
	}
	require.Len(t, sv.store.stored(1), 20)
}

// What has come in of a message stays where it is: there is no rest within one,
// be it in its head, in its payload, between its fragments, or with a Ping
// between those.
func TestNoRestWithinAMessage(t *testing.T) {
	t.Parallel()
	sv := serve(t, restless(), newFakeStore())
	d := sv.join(t, 1)
	frame := d.frame(0, 40)
	whole := masked(0x82, frame)
	cut := func(at int) [][]byte { return [][]byte{whole[:at], whole[at:]} }
	fragments := [][]byte{masked(0x02, frame[:50]), masked(0x00, frame[50:80]), masked(0x80, frame[80:])}
	for name, parts := range map[string][][]byte{
		"in the head": cut(1), "behind the length": cut(4), "in the mask": cut(6), "behind the head": cut(8), "in the payload": cut(200),
		"between fragments":    fragments,
		"a Ping in between":    {fragments[0], masked(0x89, []byte("x")), fragments[1], fragments[2]},
		"Pongs in between":     {fragments[0], masked(0x8A, nil), append(masked(0x8A, nil), fragments[1]...), fragments[2]},
		"a Ping and a half":    {append(masked(0x89, nil), whole[:3]...), whole[3:]},
		"a message and a half": {append(masked(0x82, d.encoder.Ping(wire.Ping{Echo: 1})), whole[:90]...), whole[90:]},
	} {
		d := sv.join(t, len(name))
		for i, part := range parts {
			sv.rests(t, 2-min(i, 1)) // the first one, and d if it may
			d.raw(part)
			time.Sleep(5 * time.Millisecond) // several chances to rest wrongly
		}
		for {
			if frame := d.next(); !isPong(frame) {
				ack, err := d.decoder.Ack(frame)
				require.NoError(t, err, name)
				require.Equal(t, uint64(40), ack.Next, name)
				break
			}
		}
		d.conn.Close()
		eventually(t, func() bool { return sv.gateway.Stats().Connections == 1 }, "it has left")
	}
}

func isPong(frame []byte) bool {
	kind, err := wire.FrameTypeOf(frame)
	return err == nil && kind == wire.FramePong
}

// A Pong is no reason to stay awake.
func TestBackToRestAfterAPong(t *testing.T) {
	t.Parallel()
	cfg := restless()
	cfg.RestAfter = time.Hour // it goes to rest when the test says so, or by itself
	sv := serve(t, cfg, newFakeStore())
	d := sv.join(t, 1)
	d.data(0, 1)
	d.ackUpTo(1) // the timers leave it alone now
	link := sv.gateway.hub.current(1).link
	link.nod()
	sv.rests(t, 1)
	before := link.heard.Load()
	d.raw(masked(0x8A, []byte("still here")))
	eventually(t, func() bool { return link.heard.Load() > before }, "it was heard")
	sv.rests(t, 1)
}

// The Pong to our Ping wakes nobody up, is a sign of life all the same, and is
// counted: a flood of them ends the connection.
func TestEmptyPongsAtRest(t *testing.T) {
	t.Parallel()
	cfg := restless()
	cfg.RestAfter = 10 * time.Millisecond
	sv := serve(t, cfg, newFakeStore())
	d := sv.join(t, 1)
	sv.rests(t, 1)
	session := sv.gateway.hub.current(1)
	for range 5 {
		before := session.link.heard.Load()
		d.raw(masked(0x8A, nil))
		eventually(t, func() bool { return session.link.heard.Load() > before }, "it was heard")
		require.Equal(t, 1, sv.gateway.Stats().Resting)
	}
	d.data(0, 1)
	d.ackUpTo(1)
	for sv.gateway.Stats().Connections > 0 {
		if _, err := d.conn.Write(masked(0x8A, nil)); err != nil {
			break
		}
	}
	eventually(t, func() bool { return len(sv.registry.endings()) == 1 }, "it was ended")
	require.Equal(t, closeFlood.Code, sv.registry.endings()[0].Code)
}

// Renewed connections go on resting, and hear as before.
func TestRenew(t *testing.T) {
	t.Parallel()
	sv := serve(t, restless(), newFakeStore())
	d := sv.join(t, 1)
	for n := range uint64(20) {
		sv.rests(t, 1)
		if n%2 == 0 {
			sv.gateway.Renew()
			sv.gateway.Renew()
		}
		d.data(n, 1)
		d.ackUpTo(n + 1)
		sv.gateway.Renew()
	}
	d.conn.Close()
	eventually(t, func() bool { return len(sv.registry.endings()) == 1 }, "its end is recorded")
	require.Equal(t, uint64(20), sv.registry.endings()[0].Counts.RowsCommitted)
}

// A connection at rest ends like any other.
func TestEndsAtRest(t *testing.T) {
	t.Parallel()
	t.Run("the device closes", func(t *testing.T) {
		t.Parallel()
		sv := serve(t, restless(), newFakeStore())
		d := sv.join(t, 1)
		sv.rests(t, 1)
		d.raw(masked(0x88, []byte{0x03, 0xE8}))
		d.closesWith(1000, false)
	})
	t.Run("the line breaks", func(t *testing.T) {
		t.Parallel()
		sv := serve(t, restless(), newFakeStore())
		d := sv.join(t, 1)
		sv.rests(t, 1)
		d.conn.Close()
		eventually(t, func() bool { return len(sv.registry.endings()) == 1 }, "its end is recorded")
		require.Equal(t, closeLost.Text, sv.registry.endings()[0].Reason)
	})
	t.Run("replaced", func(t *testing.T) {
		t.Parallel()
		sv := serve(t, restless(), newFakeStore())
		d := sv.join(t, 1)
		sv.rests(t, 1)
		sv.join(t, 1)
		d.closesWith(wire.CloseReplaced, true)
	})
	t.Run("revoked", func(t *testing.T) {
		t.Parallel()
		sv := serve(t, restless(), newFakeStore())
		d := sv.join(t, 1)
		sv.rests(t, 1)
		require.Equal(t, 1, sv.gateway.DropDevice(1, 0, wire.CloseDisabled))
		d.closesWith(wire.CloseDisabled, true)
	})
	t.Run("the gateway stops", func(t *testing.T) {
		t.Parallel()
		sv := serve(t, restless(), newFakeStore())
		var all []*device
		for n := range 50 {
			all = append(all, sv.join(t, n))
		}
		sv.rests(t, 50)
		stopped := make(chan error, 1)
		go func() { stopped <- sv.gateway.Stop(t.Context()) }()
		for _, d := range all {
			d.closesWith(wire.CloseDrain, true)
		}
		require.NoError(t, <-stopped)
		require.Zero(t, sv.gateway.Stats().Resting)
	})
	t.Run("silence", func(t *testing.T) {
		t.Parallel()
		sv := serve(t, restless(), newFakeStore())
		d := sv.join(t, 1)
		sv.rests(t, 1)
		sv.gateway.hub.current(1).heartbeat.Store(int64(10 * time.Millisecond)) // and 10 s more
		sv.gateway.hub.current(1).link.heard.Add(-int64(10 * time.Second))
		sv.gateway.hub.attend(sv.gateway.hub.current(1))
		d.closesWith(wire.CloseHeartbeat, true)
	})
}

// FuzzRest sends what the fuzzer makes up, in pieces, to a server whose
// connections rest between any two of them, and to one where none ever does.
// Both must take it for the same.
//
//fuzz:executions 200
func FuzzRest(f *testing.F) {
	encoder := wire.NewEncoder()
	layout := masked(0x82, encoder.Layout(twoNumbers()))
	data, _ := encoder.Data(&wire.Data{Seq: 0, Layout: 1, Rows: rows(0, 3)})
	more, _ := encoder.Data(&wire.Data{Seq: 3, Layout: 1, Rows: rows(3, 9)})
	stream := append(append(layout, masked(0x82, data)...), masked(0x89, []byte("hello"))...)
	stream = append(append(append(stream, masked(0x02, more[:7])...), masked(0x8A, nil)...), masked(0x80, more[7:])...)
	stream = slices.Clip(stream)
	f.Add(stream, []byte{3, 9, 40, 1, 1, 20})
	f.Add(stream, []byte{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1})
	f.Add(append(masked(0x8A, nil), stream...), []byte{6, 2, 60})
	f.Add(append(stream, 0x82, 0xFF, 0xFF), []byte{200})
	f.Add(append(stream, masked(0x81, []byte("text"))...), []byte{255})
	never := quick()
	never.RestAfter = time.Hour
	resting, plain := serve(f, restless(), newFakeStore()), serve(f, never, newFakeStore())
	number := 0
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		if len(stream) > 2000 || len(cuts) > 20 {
			t.Skip()
		}
		if number++; number >= 2000 {
			t.Skip() // the registry knows no more devices
		}
		require.Equal(t, plain.hear(t, number, stream, nil), resting.hear(t, number, stream, cuts))
	})
}

// hear sends a stream in pieces, with time to rest between them, and a close
// frame. It tells what the server made of it: how it closed, and what it stored.
func (sv *server) hear(t *testing.T, n int, stream, cuts []byte) (heard []string) {
	t.Helper()
	d := sv.connect(t, n)
	defer d.conn.Close()
	for _, cut := range cuts {
		at := min(int(cut), len(stream))
		if _, err := d.conn.Write(stream[:at]); err != nil {
			break
		}
		stream = stream[at:]
		for wait := time.Now(); time.Since(wait) < 4*time.Millisecond && sv.gateway.Stats().Resting == 0; {
			time.Sleep(200 * time.Microsecond)
		}
	}
	_, _ = d.conn.Write(append(slices.Clip(stream), masked(0x88, nil)...))
	// In the middle of a message the close frame is taken for a part of it.
	_ = d.conn.(*net.TCPConn).CloseWrite()
	// Only the latest Ping needs an answer, and one ACK stands for many: how many
	// of them come is a matter of time.
	for {
		opcode, payload, err := d.message()
		if err != nil {
			break
		}
		if opcode == opClose {
			heard = append(heard, fmt.Sprintf("close % x", payload))
		}
	}
	d.conn.Close()
	eventually(t, func() bool {
		stats := sv.gateway.Stats()
		return stats.Connections == 0 && stats.BytesWaiting == 0
	}, "everything is settled")
	for _, row := range sv.store.stored(int32(n)) {
		heard = append(heard, fmt.Sprintf("row %d", row.seq))
	}
	return heard
}

// A stop that comes just before the sleep takes its deadline away must not be lost.
func TestSleepAfterStop(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	conn, err := listener.Accept()
	require.NoError(t, err)
	defer conn.Close()
	for name, end := range map[string]func(*link){"stop": (*link).stop, "pause": func(l *link) { l.pause() }} {
		l := newLink(conn, nil, newClock())
		end(l)
		woke := make(chan struct{})
		go func() {
			defer close(woke)
			l.sleep()
		}()
		select {
		case <-woke:
		case <-time.After(patience):
			require.Fail(t, name+" was slept through")
		}
	}
}
