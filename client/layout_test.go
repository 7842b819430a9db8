package client_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/client"
	"mooring/wire"
)

func TestUnknownLayoutIsDeclaredAnewAndSentAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		var rejects []wire.Reject
		d := start(t, server, func(cfg *client.Config) {
			cfg.OnReject = func(reject wire.Reject) { rejects = append(rejects, reject) }
		})
		defer d.stop()
		d.rows(t, 6)
		refusal := wire.Reject{Seq: 2, N: 2, Channel: wire.WholeRow, Code: wire.CodeUnknownLayout}
		value := wire.Reject{Seq: 1, N: 1, Channel: 0, Code: wire.CodeNotFinite}
		for range 3 {
			p := server.accept()
			p.greet()
			require.LessOrEqual(t, p.data().Seq, uint64(2))
			p.data()
			p.welcome(16)
			p.notice(wire.Notice{Kind: wire.NoticeNeedLayout, Layout: 0})
			p.ack(4, 16, value, refusal)
			require.Error(t, p.closed())
			require.EqualValues(t, 2, d.Stats().Unacked, "refused for now: kept")
		}
		synctest.Wait()
		require.Equal(t, []wire.Reject{value, value, value}, rejects)
		p := server.accept()
		p.greet()
		require.EqualValues(t, 2, p.data().Seq)
		require.EqualValues(t, 4, p.data().Seq)
		p.welcome(16)
		p.ack(6, 16, refusal)
		require.NoError(t, d.WaitAcked(t.Context()), "but not for ever")
		synctest.Wait()
		require.Equal(t, refusal, rejects[3])
	})
}

func TestRejectedLayoutIsFinal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, nil)
		defer d.stop()
		d.rows(t, 2)
		p := server.accept()
		p.greet()
		p.data()
		p.welcome(16)
		p.notice(wire.Notice{Kind: wire.NoticeLayoutRejected, Layout: 0, Channel: 0, Reason: wire.CodeName})
		event := d.event(t, client.EventLayoutRejected)
		require.Equal(t, wire.CodeName, event.Reason)
		_, err := d.Append(d.layout, time.UnixMilli(0), wire.Value{})
		require.ErrorIs(t, err, client.ErrLayoutRejected)
		p.notice(wire.Notice{Kind: wire.NoticeNeedLayout, Layout: 0})
		p.ack(2, 16, wire.Reject{Seq: 0, N: 2, Channel: wire.WholeRow, Code: wire.CodeUnknownLayout})
		require.NoError(t, d.WaitAcked(t.Context()))
	})
}

// wideLayout has a LAYOUT frame of some 64 bytes a channel.
func wideLayout(channels int) []wire.Channel {
	wide := make([]wire.Channel, channels)
	for i := range wide {
		wide[i].Name = fmt.Sprintf("%03d%s", i, strings.Repeat("x", 61))
	}
	return wide
}

// A LAYOUT that no frame holds is never sent: the server would close the
// connection for it, again and again.
func TestLayoutsFitTheServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, nil)
		defer d.stop()
		early, err := d.Layout("wide", wideLayout(256)) // a server may take it
		require.NoError(t, err)
		_, err = d.Append(early, time.UnixMilli(0), make([]wire.Value, 256)...)
		require.NoError(t, err)
		p := server.accept()
		p.frame(wire.FrameHello)
		synctest.Wait()
		require.Empty(t, p.received, "it waits for WELCOME")
		p.send(p.encoder.Welcome(wire.Welcome{MaxFrame: 16 << 10, Window: 100}))
		event := d.event(t, client.EventDropped)
		tooLarge, ok := errors.AsType[*client.LayoutSizeError](event.Err)
		require.True(t, ok, event.Err)
		require.Equal(t, 16<<10, tooLarge.Limit)
		require.Greater(t, tooLarge.Size, tooLarge.Limit)
		require.Equal(t, "wide", tooLarge.Name)

		_, err = d.Append(early, time.UnixMilli(0), make([]wire.Value, 256)...)
		require.ErrorAs(t, err, &tooLarge)
		_, err = d.Layout("wide too", wideLayout(256))
		require.ErrorAs(t, err, &tooLarge)
		require.ErrorContains(t, err, "max_frame, which is 16384")
		_, err = d.Layout("narrower", wideLayout(200))
		require.NoError(t, err)
		d.rows(t, 1)
		p.frame(wire.FrameLayout)
		p.data()
	})
}

// A server with a larger limit gets it.
func TestLargeLayoutWaitsForTheLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, nil)
		defer d.stop()
		wide, err := d.Layout("wide", wideLayout(256))
		require.NoError(t, err)
		_, err = d.Append(wide, time.UnixMilli(0), make([]wire.Value, 256)...)
		require.NoError(t, err)
		p := server.accept()
		p.frame(wire.FrameHello)
		p.send(p.encoder.Welcome(wire.Welcome{MaxFrame: 32 << 10, Window: 100}))
		p.frame(wire.FrameLayout)
		require.EqualValues(t, 0, p.data().Seq)
	})
}
