package ingest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

func TestRowsAreStoredAndAcknowledged(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	sv.registry.next[3] = 77
	d := sv.connect(t, 3)
	require.Equal(t, wire.Subprotocol, d.header.Get("Sec-Websocket-Protocol"))
	d.send(d.encoder.Hello(wire.Hello{BootID: 9, Heartbeat: 3, Model: "probe", Firmware: "1.2"}))
	welcome := d.welcome()
	require.Equal(t, 5, welcome.Heartbeat, "a wish below 5 s is raised")
	require.Equal(t, 16, welcome.Window)
	require.Equal(t, 16<<10, welcome.MaxFrame)
	require.Equal(t, uint64(77), welcome.Next)
	require.True(t, welcome.HasNext)

	d.send(d.encoder.Layout(twoNumbers()))
	d.data(100, 10)
	ack := d.ackUpTo(110)
	require.Zero(t, ack.Rejected)
	require.Equal(t, 16, ack.Window)
	stored := sv.store.stored(3)
	require.Len(t, stored, 10)
	for i, row := range stored {
		require.Equal(t, uint64(100+i), row.seq)
		require.Equal(t, []wire.Value{{Kind: wire.ValueNumber, Number: 100 + float64(i)}, {Kind: wire.ValueNumber, Number: float64(i)}}, row.values)
	}

	d.data(115, 5) // 110 to 114 were given up
	d.ackUpTo(120)
	d.raw(masked(0x88, []byte{3, 0xE8}))
	code, _, _ := d.closed()
	require.Equal(t, wire.CloseCode(1000), code, "the close is echoed")
	eventually(t, func() bool { return len(sv.registry.endings()) == 1 }, "the end is recorded")
	end := sv.registry.endings()[0]
	require.Equal(t, SessionCounts{RowsIn: 15, RowsCommitted: 15, RowsLost: 5}, end.Counts)
	require.Equal(t, uint64(120), end.Next)
	require.Equal(t, wire.CloseCode(1000), end.Code)
	require.Equal(t, "probe", sv.registry.opens[0].Model)
	stats := sv.gateway.Stats()
	require.Equal(t, uint64(15), stats.RowsCommitted)
	require.Positive(t, stats.AckP99)
}

// Frames below the number that WELCOME hinted at are likely to be stored: the
// store is told which devices send such.
func TestStoreIsToldWhoMayResend(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	sv := serve(t, quick(), store)
	sv.registry.next[1] = 20
	first, second := sv.join(t, 1), sv.join(t, 2)
	for seq := uint64(0); seq < 40; seq += 10 {
		first.data(seq, 10)
		first.ackUpTo(seq + 10)
	}
	second.data(0, 10)
	second.ackUpTo(10)
	store.mu.Lock()
	defer store.mu.Unlock()
	id := []int32{1}
	require.Equal(t, [][]int32{id, id, {}, {}, {}}, store.resent)
	require.Len(t, store.rows, 50)
}
