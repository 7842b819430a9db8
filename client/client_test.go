package client_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lxzan/gws"
	"github.com/stretchr/testify/require"

	"mooring/client"
	"mooring/wire"
)

func TestRowsAreSentAndFreedByAcks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		var acks []client.Ack
		d := start(t, server, func(cfg *client.Config) {
			cfg.OnAck = func(ack client.Ack) {
				ack.Latencies = append([]time.Duration(nil), ack.Latencies...)
				acks = append(acks, ack)
			}
			cfg.Firmware, cfg.Heartbeat = "1.2", 20*time.Second
		})
		defer d.stop()
		seq, err := d.Append(d.layout, time.UnixMilli(1234).Add(999*time.Microsecond), wire.Value{Kind: wire.ValueInt, Int: -7})
		require.NoError(t, err)
		require.Zero(t, seq)

		p := server.accept()
		require.Equal(t, "Bearer secret", p.header.Get("Authorization"))
		hello, layout := p.greet()
		require.Equal(t, wire.Hello{BootID: d.BootID(), Heartbeat: 20, MaxReceive: 16 << 10, Model: "probe", Firmware: "1.2"}, hello)
		require.Equal(t, wire.Layout{Number: 0, Name: "probe", Channels: []wire.Channel{{Name: "x"}}}, layout)
		frame := p.frame(wire.FrameData)
		head, err := p.decoder.DataHead(frame)
		require.NoError(t, err)
		require.EqualValues(t, 0, head.Seq)
		require.EqualValues(t, 1234, head.T0, "cut to milliseconds")
		p.decoder.Rows(&layout, 0)
		var row wire.Row
		require.True(t, p.decoder.Next(&row))
		require.InDelta(t, -7, row.Values[0].Number, 0)

		p.welcome(16)
		time.Sleep(3 * time.Second)
		require.Equal(t, 1, d.Stats().Rows)
		p.ack(1, 16)
		require.NoError(t, d.WaitAcked(t.Context()))
		synctest.Wait()
		require.Equal(t, []client.Ack{{Next: 1, Rows: 1, Latencies: []time.Duration{3 * time.Second}}}, acks)
		stats := d.Stats()
		require.EqualValues(t, 1, stats.RowsSettled)
		require.Zero(t, stats.Rows)
		require.Zero(t, stats.Bytes)
		require.EqualValues(t, 1, stats.Unacked)
	})
}

func TestAtMostFourFramesBeforeWelcome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, nil)
		defer d.stop()
		d.rows(t, 20)
		p := server.accept()
		p.greet()
		for i := range 4 {
			require.EqualValues(t, 2*i, p.data().Seq)
		}
		synctest.Wait()
		require.Empty(t, p.received)
		p.welcome(5)
		require.EqualValues(t, 8, p.data().Seq)
		synctest.Wait()
		require.Empty(t, p.received, "the window counts what was sent before")
	})
}

func TestWindowIsRespected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, nil)
		defer d.stop()
		p := server.accept()
		p.frame(wire.FrameHello)
		p.welcome(2)
		synctest.Wait()
		d.rows(t, 12)
		p.frame(wire.FrameLayout)
		require.EqualValues(t, 0, p.data().Seq)
		require.EqualValues(t, 2, p.data().Seq)
		synctest.Wait()
		require.Empty(t, p.received)

		p.ack(4, 0) // everything settled, but stop
		synctest.Wait()
		require.Empty(t, p.received)
		p.ack(4, 1) // reopened
		require.EqualValues(t, 4, p.data().Seq)
		synctest.Wait()
		require.Empty(t, p.received)
		p.ack(5, 1) // half of the frame
		synctest.Wait()
		require.Empty(t, p.received)
		require.Equal(t, 1, d.Stats().InFlight)
		p.ack(6, 9)
		for range 3 {
			p.data()
		}
	})
}

func TestResendsFromTheOldestUnacknowledgedRow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, nil)
		defer d.stop()
		d.rows(t, 6)
		p := server.accept()
		hello, _ := p.greet()
		p.welcome(16)
		for range 3 {
			p.data()
		}
		p.ack(3, 16)
		synctest.Wait()
		_ = p.conn.Close()
		require.Equal(t, wire.ClassRetry, d.event(t, client.EventDisconnected).Class)
		d.rows(t, 1)
		d.SetFrameRows(3)

		again := server.accept()
		greeting, _ := again.greet()
		require.Equal(t, hello.BootID, greeting.BootID)
		// The hint is not believed: it claims that everything is committed.
		again.send(again.encoder.Welcome(wire.Welcome{Window: 16, Next: 7, HasNext: true}))
		head := again.data()
		require.EqualValues(t, 3, head.Seq)
		require.Equal(t, 3, head.N)
		require.EqualValues(t, 6, again.data().Seq)
		again.ack(7, 16)
		require.NoError(t, d.WaitAcked(t.Context()))
	})
}

func TestAnAckCoversOnlyWhatThisConnectionSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, nil)
		defer d.stop()
		d.rows(t, 20)
		p := server.accept()
		p.greet()
		p.data()
		synctest.Wait()
		p.welcome(0)
		p.ack(1000, 0)
		synctest.Wait()
		require.EqualValues(t, 8, d.Stats().Unacked, "four frames before WELCOME")
		require.EqualValues(t, 12, d.Stats().Rows)
	})
}

func TestFramesFitTheServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, func(cfg *client.Config) { cfg.FrameRows = 1000 })
		defer d.stop()
		text, err := d.Layout("log", []wire.Channel{{Name: "line", Kind: wire.KindText}})
		require.NoError(t, err)
		p := server.accept()
		p.frame(wire.FrameHello)
		p.send(p.encoder.Welcome(wire.Welcome{MaxFrame: 256, Window: 100}))
		synctest.Wait()

		d.rows(t, 100)
		p.frame(wire.FrameLayout)
		for rows := 0; rows < 100; {
			frame := p.frame(wire.FrameData)
			require.LessOrEqual(t, len(frame), 256)
			head, err := p.decoder.DataHead(frame)
			require.NoError(t, err)
			rows += head.N
		}

		// A row that fits no frame is given up once it is the oldest.
		_, err = d.Append(text, time.UnixMilli(0), wire.Value{Kind: wire.ValueText, Text: []byte(strings.Repeat("x", 255))})
		require.NoError(t, err)
		d.rows(t, 1)
		p.frame(wire.FrameLayout)
		synctest.Wait()
		require.Empty(t, p.received)
		p.ack(100, 100)
		event := d.event(t, client.EventDropped)
		require.EqualValues(t, 100, event.Seq)
		require.EqualValues(t, 101, p.data().Seq)
		require.EqualValues(t, 1, d.Stats().RowsDropped)
	})
}

func TestLingerWaitsForCompany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, func(cfg *client.Config) { cfg.FrameRows, cfg.Linger = 4, time.Second })
		defer d.stop()
		p := server.accept()
		p.frame(wire.FrameHello)
		p.welcome(16)
		synctest.Wait()
		d.rows(t, 3)
		time.Sleep(900 * time.Millisecond)
		synctest.Wait()
		require.Empty(t, p.received)
		d.rows(t, 1) // completes the frame
		synctest.Wait()
		require.Len(t, p.received, 2)
		p.frame(wire.FrameLayout)
		require.Equal(t, 4, p.data().N)

		d.rows(t, 1)
		begin := time.Now()
		require.Equal(t, 1, p.data().N)
		require.Equal(t, time.Second, time.Since(begin))
		d.rows(t, 1)
		d.Flush()
		begin = time.Now()
		p.data()
		require.Zero(t, time.Since(begin))
	})
}

func TestFullBuffer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		for _, bound := range []func(*client.Config){
			func(cfg *client.Config) { cfg.BufferRows = 3 },
			func(cfg *client.Config) { cfg.BufferBytes = 3 * 23 },
		} {
			refuse := start(t, server, bound)
			refuse.rows(t, 3)
			_, err := refuse.Append(refuse.layout, time.UnixMilli(0), wire.Value{})
			require.ErrorIs(t, err, client.ErrFull)
			require.EqualValues(t, 3, refuse.Stats().Next, "a refused row takes no number")
			refuse.stop()

			drop := start(t, server, func(cfg *client.Config) { bound(cfg); cfg.WhenFull = client.DropOldest })
			drop.rows(t, 3)
			drop.rows(t, 2)
			require.EqualValues(t, 2, drop.Stats().RowsDropped)
			p := server.accept()
			p.greet()
			require.EqualValues(t, 2, p.data().Seq, "a gap")
			drop.stop()
		}
	})
}

func TestAppendRefusesWhatHasNoForm(t *testing.T) {
	t.Parallel()
	c, err := client.New(client.Config{URL: "ws://mooring.test", Token: "secret"})
	require.NoError(t, err)
	_, err = c.Append(0, time.Now(), wire.Value{})
	require.ErrorIs(t, err, client.ErrNoLayout)
	layout, err := c.Layout("probe", []wire.Channel{{Name: "x"}})
	require.NoError(t, err)
	_, err = c.Append(layout, time.Now())
	require.ErrorIs(t, err, client.ErrWidth)
	_, err = c.Append(layout, time.UnixMilli(math.MaxInt64/2), wire.Value{})
	require.ErrorIs(t, err, client.ErrTime)
	_, err = c.Append(layout, time.Now(), wire.Value{Kind: 77})
	require.ErrorIs(t, err, client.ErrValue)
	_, err = c.Append(layout, time.Now(), wire.Value{Kind: wire.ValueText, Text: make([]byte, 1<<16)})
	require.ErrorIs(t, err, client.ErrValue)
	_, err = c.AppendBatch(layout, []wire.Row{{Values: make([]wire.Value, 1)}, {}})
	require.ErrorIs(t, err, client.ErrWidth)
	require.Zero(t, c.Stats().Next, "all or none")
	for range 15 {
		_, err = c.Layout("probe", []wire.Channel{{Name: "x"}})
		require.NoError(t, err)
	}
	_, err = c.Layout("probe", []wire.Channel{{Name: "x"}})
	require.ErrorIs(t, err, client.ErrTooManyLayouts)
}

func TestConfigNamesTheFieldAtFault(t *testing.T) {
	t.Parallel()
	for field, cfg := range map[string]client.Config{
		"URL":         {URL: "http://mooring.test"},
		"BufferRows":  {URL: "ws://mooring.test", BufferRows: -1},
		"BufferBytes": {URL: "ws://mooring.test", BufferBytes: -1},
		"FrameRows":   {URL: "ws://mooring.test", FrameRows: 5000},
		"Heartbeat":   {URL: "ws://mooring.test", Heartbeat: time.Second},
		"MaxReceive":  {URL: "ws://mooring.test", MaxReceive: 100},
		"Model":       {URL: "ws://mooring.test", Model: strings.Repeat("m", 65)},
	} {
		_, err := client.New(cfg)
		require.ErrorContains(t, err, field)
	}
	// The server would close the connection for such a HELLO, each time.
	for _, text := range []string{"\xff", "a\x00b"} {
		_, err := client.New(client.Config{URL: "ws://mooring.test", Model: text})
		require.ErrorContains(t, err, "Model")
		_, err = client.New(client.Config{URL: "ws://mooring.test", Firmware: text})
		require.ErrorContains(t, err, "Firmware")
	}
	_, err := client.New(client.Config{URL: "ws://user:secret@mooring.test"})
	require.ErrorContains(t, err, "credentials")
}

func TestRunReturnsWhileAWriteIsStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, nil)
		p := server.upgrade() // and never reads
		synctest.Wait()
		begin := time.Now()
		d.stop()
		require.LessOrEqual(t, time.Since(begin), 2*time.Second)
		_ = p.conn.Close()
	})
}

func TestRunReturnsDuringTheHandshake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, nil)
		conn := server.next() // never answered
		synctest.Wait()
		d.stop()
		_ = conn.Close()
	})
}

func TestEndOfRunSaysGoodbye(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, nil)
		p := server.accept()
		p.frame(wire.FrameHello)
		p.welcome(16)
		synctest.Wait()
		require.ErrorIs(t, d.Run(t.Context()), client.ErrRunning)
		d.stop()
		var closed *gws.CloseError
		require.ErrorAs(t, p.closed(), &closed)
		require.EqualValues(t, 1000, closed.Code)
	})
}

func TestWaitAckedEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, nil)
		defer d.stop()
		d.rows(t, 1)
		cause := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, cause)
		defer cancel()
		require.ErrorIs(t, d.WaitAcked(ctx), cause)
	})
}

func TestServerTimeIsLearned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, nil)
		defer d.stop()
		_, known := d.Now()
		require.False(t, known)
		p := server.accept()
		p.send(p.encoder.Welcome(wire.Welcome{Time: time.Now().Add(time.Hour).UnixMilli(), Window: 16}))
		synctest.Wait()
		now, known := d.Now()
		require.True(t, known)
		require.WithinDuration(t, time.Now().Add(time.Hour), now, time.Millisecond)
		p.notice(wire.Notice{Kind: wire.NoticeTime, Time: time.Now().UnixMilli()})
		synctest.Wait()
		now, _ = d.Now()
		require.WithinDuration(t, time.Now(), now, time.Millisecond)
	})
}
