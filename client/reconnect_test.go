package client_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lxzan/gws"
	"github.com/stretchr/testify/require"

	"mooring/client"
	"mooring/wire"
)

func TestWaitsFollowTheTable(t *testing.T) {
	t.Parallel()
	const spread = 10 * time.Second
	for _, test := range []struct {
		retry client.Retry
		least time.Duration
		most  time.Duration
	}{
		{client.Retry{Class: wire.ClassRetry}, 0, spread},
		{client.Retry{Class: wire.ClassRetry, Failures: 3}, 0, 8 * spread},
		{client.Retry{Class: wire.ClassRetry, Failures: 1000}, 0, 600 * time.Second},
		{client.Retry{Class: wire.ClassLater}, 60 * time.Second, 60*time.Second + spread},
		{client.Retry{Class: wire.ClassFault, Failures: 1}, 10 * time.Second, 10*time.Second + 2*spread},
		{client.Retry{Class: wire.ClassTerminal, Failures: 1}, 900 * time.Second, 900*time.Second + 2*spread},
		{client.Retry{Class: wire.ClassTerminal, Failures: 3}, 3600 * time.Second, 3600*time.Second + 8*spread},
		{client.Retry{Class: wire.ClassTerminal, Failures: 1000}, 6 * time.Hour, 6*time.Hour + 600*time.Second},
		{client.Retry{Class: wire.ClassRetry, Min: time.Minute, Max: 2 * time.Minute}, time.Minute, 2 * time.Minute},
		{client.Retry{Class: wire.ClassRetry, Min: time.Minute, Max: time.Minute}, time.Minute, 61 * time.Second},
		{client.Retry{Class: wire.ClassRetry, Min: time.Minute}, time.Minute, 61 * time.Second},
		{client.Retry{Class: wire.ClassLater, Min: time.Second, Max: 2 * time.Second}, 60 * time.Second, 60*time.Second + spread},
		{client.Retry{Class: wire.ClassLater, After: 300 * time.Second}, 300 * time.Second, 300*time.Second + spread},
	} {
		t.Run(fmt.Sprintf("%s %d", test.retry.Class, test.retry.Failures), func(t *testing.T) {
			t.Parallel()
			test.retry.Spread = spread
			distinct := map[time.Duration]bool{}
			for range 200 {
				wait := test.retry.Wait()
				require.GreaterOrEqual(t, wait, test.least)
				require.LessOrEqual(t, wait, test.most)
				distinct[wait] = true
			}
			require.Greater(t, len(distinct), 100, "jittered")
		})
	}
}

func TestClosesAreClassified(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		retries := make(chan client.Retry, 1)
		d := start(t, server, func(cfg *client.Config) {
			cfg.Backoff = func(retry client.Retry) time.Duration { retries <- retry; return 0 }
		})
		defer d.stop()
		for failures, test := range []struct {
			end   func(p *peer)
			class wire.CloseClass
			code  wire.CloseCode
		}{
			{func(p *peer) { _ = p.socket.WriteClose(4000, nil) }, wire.ClassRetry, 4000},
			{func(p *peer) { _ = p.socket.WriteClose(4101, []byte("replaced")) }, wire.ClassLater, 4101},
			{func(p *peer) { _ = p.socket.WriteClose(4200, nil) }, wire.ClassFault, 4200},
			{func(p *peer) { _ = p.socket.WriteClose(4502, nil) }, wire.ClassTerminal, 4502},
			{func(p *peer) { _ = p.conn.Close() }, wire.ClassRetry, 1006},
			{func(p *peer) { _, _ = p.conn.Write([]byte{0x88, 0}) }, wire.ClassRetry, 1005},
			// The close code was lost, but the GOAWAY before it says the same.
			{func(p *peer) {
				p.notice(wire.Notice{Kind: wire.NoticeGoAway, Code: 4100, MinMillis: 1, MaxMillis: 2})
				_ = p.conn.Close()
			}, wire.ClassLater, 4100},
			// The frame that kills processes whose reader nobody looks after.
			{func(p *peer) {
				_, _ = p.conn.Write([]byte{0x82, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
			}, wire.ClassRetry, 1006},
			{func(p *peer) { p.send([]byte("not a frame")) }, wire.ClassRetry, 1006},
			{func(p *peer) { p.send([]byte{0x91, 30}) }, wire.ClassRetry, 1006}, // unknown, critical
			{func(p *peer) { p.send([]byte{0x91, 3}) }, wire.ClassRetry, 1006},  // DATA from a server
			{func(p *peer) { _ = p.socket.WriteString("text") }, wire.ClassRetry, 1006},
		} {
			p := server.accept()
			p.frame(wire.FrameHello)
			p.send([]byte{0x91, 99}) // unknown, ignorable
			test.end(p)
			event := d.event(t, client.EventDisconnected)
			require.Equal(t, test.class, event.Class, event.Err)
			require.Equal(t, test.code, event.Code)
			retry := <-retries
			require.Equal(t, test.class, retry.Class)
			require.Equal(t, failures+1, retry.Failures)
			if test.code == 4100 {
				require.Equal(t, 2*time.Millisecond, retry.Max)
			}
			_ = p.conn.Close()
			require.Error(t, p.closed())
		}
	})
}

func TestRefusedUpgradesAreClassified(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		retries := make(chan client.Retry, 1)
		d := start(t, server, func(cfg *client.Config) {
			cfg.Backoff = func(retry client.Retry) time.Duration { retries <- retry; return 0 }
		})
		defer d.stop()
		for status, class := range map[int]wire.CloseClass{
			400: wire.ClassFault, 401: wire.ClassTerminal, 403: wire.ClassTerminal, 426: wire.ClassFault,
			429: wire.ClassLater, 500: wire.ClassRetry, 503: wire.ClassLater,
		} {
			conn := server.next()
			go func() { _, _ = io.CopyN(io.Discard, conn, 1) }()
			go func() { _, _ = io.Copy(io.Discard, conn) }()
			_, err := fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", status, http.StatusText(status))
			require.NoError(t, err)
			event := d.event(t, client.EventDisconnected)
			require.Equal(t, status, event.Status)
			require.Equal(t, class, event.Class)
			require.Equal(t, 7*time.Second, (<-retries).After)
			_ = conn.Close()
		}
	})
}

func TestProgressEndsTheGrowth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		retries := make(chan client.Retry, 1)
		d := start(t, server, func(cfg *client.Config) {
			cfg.Backoff = func(retry client.Retry) time.Duration { retries <- retry; return 0 }
		})
		defer d.stop()
		for want := 1; want < 4; want++ {
			_ = server.next().Close()
			require.Equal(t, want, (<-retries).Failures)
		}
		p := server.accept()
		p.frame(wire.FrameHello)
		p.welcome(16)
		d.rows(t, 1)
		p.frame(wire.FrameLayout)
		p.data()
		p.ack(1, 16)
		require.NoError(t, d.WaitAcked(t.Context()))
		_ = p.conn.Close()
		retry := <-retries
		require.Equal(t, 0, retry.Failures)
		require.Equal(t, 5*time.Second, retry.Spread)
	})
}

func TestGoAwayWaitsForAcks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, nil)
		defer d.stop()
		p := server.accept()
		p.frame(wire.FrameHello)
		p.welcome(16)
		d.rows(t, 1)
		p.frame(wire.FrameLayout)
		p.data()
		p.notice(wire.Notice{
			Kind: wire.NoticeGoAway, Code: wire.CloseDrain, GraceMillis: 60_000,
			MinMillis: 100_000, MaxMillis: 110_000, Text: "the server restarts",
		})
		require.Equal(t, "the server restarts", d.event(t, client.EventGoAway).Text)
		d.rows(t, 1) // not sent any more
		time.Sleep(30 * time.Second)
		synctest.Wait()
		require.Empty(t, p.received)
		p.ack(1, 16)
		var closed *gws.CloseError
		require.ErrorAs(t, p.closed(), &closed)
		require.EqualValues(t, 1000, closed.Code)
		event := d.event(t, client.EventDisconnected)
		require.Equal(t, wire.ClassRetry, event.Class)
		require.GreaterOrEqual(t, event.Wait, 100*time.Second)
		require.LessOrEqual(t, event.Wait, 110*time.Second)
		again := server.accept()
		again.greet()
		require.EqualValues(t, 1, again.data().Seq)
	})
}

func TestGoAwayDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, nil)
		defer d.stop()
		d.rows(t, 1)
		p := server.accept()
		p.greet()
		p.data()
		p.notice(wire.Notice{Kind: wire.NoticeGoAway, Code: wire.CloseDrain, GraceMillis: 5000, MaxMillis: 10})
		begin := time.Now()
		require.Error(t, p.closed())
		require.Equal(t, 6*time.Second, time.Since(begin))
	})
}

func TestPoisonRule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, nil)
		defer d.stop()
		d.rows(t, 6)
		for range 2 {
			p := server.accept()
			p.greet()
			require.EqualValues(t, 0, p.data().Seq)
			_ = p.socket.WriteClose(4200, nil)
			d.event(t, client.EventDisconnected)
		}
		p := server.accept()
		p.greet()
		require.EqualValues(t, 2, p.data().Seq, "one frame less")
		require.EqualValues(t, 1, d.Stats().Poisoned)
		require.EqualValues(t, 2, d.Stats().RowsDropped)
		p.welcome(16)
		p.ack(4, 16)
		synctest.Wait()
		// Progress in between: the count starts anew.
		_ = p.socket.WriteClose(4200, nil)
		d.event(t, client.EventDisconnected)
		p = server.accept()
		p.greet()
		require.EqualValues(t, 4, p.data().Seq)
		require.EqualValues(t, 1, d.Stats().Poisoned)
	})
}

func TestPoisonRuleCountsOnlyConnectionsWithData(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, nil)
		defer d.stop()
		p := server.accept()
		p.frame(wire.FrameHello)
		_ = p.socket.WriteClose(4200, nil) // not because of a row
		d.event(t, client.EventDisconnected)
		d.rows(t, 2)
		p = server.accept()
		p.greet()
		p.data()
		_ = p.socket.WriteClose(4200, nil)
		d.event(t, client.EventDisconnected)
		p = server.accept()
		p.greet()
		require.EqualValues(t, 0, p.data().Seq)
		require.Zero(t, d.Stats().Poisoned)
	})
}

func TestSilenceOfTwoHeartbeatsIsDeath(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, func(cfg *client.Config) { cfg.Backoff = func(client.Retry) time.Duration { return 0 } })
		defer d.stop()
		p := server.accept()
		p.frame(wire.FrameHello)
		p.send(p.encoder.Welcome(wire.Welcome{Heartbeat: 10, Window: 16}))
		for _, payload := range []string{"", "a payload", ""} {
			time.Sleep(19 * time.Second)
			require.NoError(t, p.socket.WritePing([]byte(payload)))
			require.Equal(t, payload, string(<-p.pongs), "the same payload")
		}
		begin := time.Now()
		event := d.event(t, client.EventDisconnected)
		require.Equal(t, 20*time.Second, time.Since(begin))
		require.Equal(t, wire.ClassRetry, event.Class)
		require.ErrorContains(t, event.Err, "nothing was heard")
	})
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, nil)
		defer d.stop()
		p := server.accept()
		p.frame(wire.FrameHello)
		p.welcome(100)
		p.notice(wire.Notice{Kind: wire.NoticeThrottle, MinGapMillis: 700, ForSeconds: 2})
		synctest.Wait()
		d.rows(t, 20)
		p.frame(wire.FrameLayout)
		begin := time.Now()
		var at []time.Duration
		for range 10 {
			p.data()
			at = append(at, time.Since(begin))
		}
		require.Equal(t, []time.Duration{0, 700 * time.Millisecond, 1400 * time.Millisecond}, at[:3])
		require.LessOrEqual(t, at[9], 2100*time.Millisecond)
	})
}

// deafConn is a connection whose writes fail from some point on, while what
// comes in is still read, as when the other side has closed its end.
type deafConn struct {
	net.Conn

	left atomic.Int32
}

func (c *deafConn) Write(p []byte) (int, error) {
	if c.left.Add(-1) < 0 {
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(p)
}

func TestCloseCodeSurvivesAFailedWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, func(cfg *client.Config) {
			cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := server.dial(ctx, network, address)
				deaf := &deafConn{Conn: conn}
				deaf.left.Store(3) // the handshake, HELLO and LAYOUT
				return deaf, err
			}
		})
		defer d.stop()
		d.rows(t, 2)
		p := server.accept()
		p.greet()
		time.Sleep(farewellAndHalf / 3)
		_ = p.socket.WriteClose(uint16(wire.CloseReplaced), nil)
		event := d.event(t, client.EventDisconnected)
		require.Equal(t, wire.CloseReplaced, event.Code)
		require.Equal(t, wire.ClassLater, event.Class)

		p = server.accept() // this time the server says nothing
		p.greet()
		begin := time.Now()
		event = d.event(t, client.EventDisconnected)
		require.Equal(t, wire.ClassRetry, event.Class)
		require.ErrorContains(t, event.Err, "writing")
		require.LessOrEqual(t, time.Since(begin), farewellAndHalf, "and nobody waits for long")
	})
}

const farewellAndHalf = 1500 * time.Millisecond
