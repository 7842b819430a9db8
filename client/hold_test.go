package client_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/client"
	"mooring/wire"
)

// longTexts appends a row whose DATA frame is larger than what servers take by
// default.
func longTexts(t *testing.T, d *device, layout client.LayoutID) {
	t.Helper()
	values := make([]wire.Value, 100)
	for i := range values {
		values[i] = wire.Value{Kind: wire.ValueText, Text: make([]byte, 200)}
	}
	_, err := d.Append(layout, time.UnixMilli(0), values...)
	require.NoError(t, err)
}

// Before WELCOME nobody knows how large a frame may be: a row that may be too large
// for this server waits for its word.
func TestLargeRowWaitsForTheLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, nil)
		defer d.stop()
		channels := make([]wire.Channel, 100)
		for i := range channels {
			channels[i] = wire.Channel{Name: strconv.Itoa(i), Kind: wire.KindText}
		}
		layout, err := d.Layout("texts", channels)
		require.NoError(t, err)
		longTexts(t, d, layout)
		p := server.accept()
		p.greet()
		synctest.Wait()
		require.Zero(t, d.Stats().RowsDropped)
		p.send(p.encoder.Welcome(wire.Welcome{MaxFrame: 64 << 10, Window: 100}))
		require.EqualValues(t, 0, p.data().Seq)
		p.ack(1, 100)

		// The next server may have a larger limit than the one before.
		p.notice(wire.Notice{Kind: wire.NoticeParams, MaxFrame: 8 << 10})
		require.NoError(t, p.conn.Close())
		d.event(t, client.EventDisconnected)
		longTexts(t, d, layout)
		p = server.accept()
		p.greet()
		synctest.Wait()
		require.Zero(t, d.Stats().RowsDropped)
		p.send(p.encoder.Welcome(wire.Welcome{MaxFrame: 64 << 10, Window: 100}))
		require.EqualValues(t, 1, p.data().Seq)
	})
}

// One entry of an ACK may be of rows of two layouts, of which the server takes only
// one.
func TestRefusalForNowOfTwoLayouts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		var rejects []wire.Reject
		d := start(t, server, func(cfg *client.Config) {
			cfg.OnReject = func(reject wire.Reject) { rejects = append(rejects, reject) }
		})
		defer d.stop()
		good, err := d.Layout("good", []wire.Channel{{Name: "x"}})
		require.NoError(t, err)
		d.rows(t, 2)
		for range 2 {
			_, err = d.Append(good, time.UnixMilli(0), wire.Value{})
			require.NoError(t, err)
		}
		p := server.accept()
		p.greet()
		p.data()
		p.frame(wire.FrameLayout)
		p.data()
		p.welcome(16)
		p.notice(wire.Notice{Kind: wire.NoticeLayoutRejected, Layout: 0, Channel: 0, Reason: wire.CodeName})
		d.event(t, client.EventLayoutRejected)
		p.ack(4, 16, wire.Reject{Seq: 0, N: 4, Channel: wire.WholeRow, Code: wire.CodeQuota})
		require.Error(t, p.closed())
		require.EqualValues(t, 2, d.Stats().Unacked, "those of the good layout are kept")
		synctest.Wait()
		require.Equal(t, []wire.Reject{{Seq: 0, N: 2, Channel: wire.WholeRow, Code: wire.CodeQuota}}, rejects, "the others' end is told")
	})
}

// Rows that are given up are told of, also when others of the same ACK are kept.
func TestRefusalForGoodBesideOneForNow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		var rejects []wire.Reject
		d := start(t, server, func(cfg *client.Config) {
			cfg.OnReject = func(reject wire.Reject) { rejects = append(rejects, reject) }
		})
		defer d.stop()
		good, err := d.Layout("good", []wire.Channel{{Name: "x"}})
		require.NoError(t, err)
		d.rows(t, 2)
		_, err = d.Append(good, time.UnixMilli(0), wire.Value{})
		require.NoError(t, err)
		p := server.accept()
		p.greet()
		p.data()
		p.frame(wire.FrameLayout)
		p.data()
		p.welcome(16)
		p.notice(wire.Notice{Kind: wire.NoticeLayoutRejected, Layout: 0, Channel: 0, Reason: wire.CodeName})
		d.event(t, client.EventLayoutRejected)
		gone := wire.Reject{Seq: 0, N: 2, Channel: wire.WholeRow, Code: wire.CodeUnknownLayout}
		p.ack(3, 16, gone, wire.Reject{Seq: 2, N: 1, Channel: wire.WholeRow, Code: wire.CodeQuota})
		require.Error(t, p.closed())
		require.EqualValues(t, 2, d.Stats().Unacked)
		synctest.Wait()
		require.Equal(t, []wire.Reject{gone}, rejects)
	})
}

// A server may send further refusals before it sees that the client leaves. They
// must not have it forget how often the first row was refused.
func TestRefusalsForNowInSeveralAcksEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, nil)
		defer d.stop()
		d.rows(t, 4)
		for range 3 {
			p := server.accept()
			p.greet()
			p.data()
			p.data()
			p.welcome(16)
			var both []byte
			for _, ack := range []wire.Ack{
				{Next: 2, Window: 16, Rejects: []wire.Reject{{Seq: 0, N: 1, Channel: wire.WholeRow, Code: wire.CodeQuota}}},
				{Next: 4, Window: 16, Rejects: []wire.Reject{{Seq: 2, N: 1, Channel: wire.WholeRow, Code: wire.CodeQuota}}},
			} {
				frame := p.encoder.Ack(&ack)
				both = append(append(both, 0x82, byte(len(frame))), frame...)
			}
			_, err := p.conn.Write(both) // as one packet brings them
			require.NoError(t, err)
			require.Error(t, p.closed())
			synctest.Wait()
			require.EqualValues(t, 0, d.Stats().Unacked)
		}
		p := server.accept()
		p.greet()
		p.data()
		p.data()
		p.welcome(16)
		p.ack(2, 16, wire.Reject{Seq: 0, N: 1, Channel: wire.WholeRow, Code: wire.CodeQuota})
		synctest.Wait()
		require.EqualValues(t, 2, d.Stats().Unacked, "not for ever")
	})
}
