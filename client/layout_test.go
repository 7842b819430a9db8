package client_test

import (
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
