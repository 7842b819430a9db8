package ingest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

func TestLayoutTheStoreRefuses(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	store.refuse["clash"] = true
	sv := serve(t, quick(), store)
	d := sv.join(t, 1)
	d.send(d.encoder.Layout(&wire.Layout{Number: 5, Name: "clash", Channels: []wire.Channel{{Name: "a"}, {Name: "b"}}}))
	frame, err := d.encoder.Data(&wire.Data{Seq: 0, Layout: 5, Rows: rows(0, 2)})
	require.NoError(t, err)
	d.send(frame)
	notice := d.notice()
	require.Equal(t, wire.Notice{Kind: wire.NoticeLayoutRejected, Layout: 5, Channel: wire.WholeRow, Reason: wire.CodeUnsupported}, notice)
	require.Equal(t, []wire.Reject{{Seq: 0, N: 2, Channel: wire.WholeRow, Code: wire.CodeUnsupported}}, d.ack().Rejects)
	d.data(2, 1)
	require.Zero(t, d.ackUpTo(3).Rejected)
	require.Len(t, store.stored(1), 1)
}

// A database that is away when a layout is first used makes the device wait.
func TestLayoutIsResolvedWithPatience(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	store.layoutFails = 2
	sv := serve(t, quick(), store)
	d := sv.join(t, 1)
	d.data(0, 1)
	require.Zero(t, d.ackUpTo(1).Rejected)
}

// A device whose layout is not resolved yet stands in nobody's way.
func TestWaitingForALayoutHoldsNoRoom(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	cfg := quick()
	cfg.Writers, cfg.MaxBatchBytes = 1, 64<<10
	sv := serve(t, cfg, store)
	known, unknown := sv.join(t, 1), sv.join(t, 2)
	known.data(0, 1)
	known.ackUpTo(1)
	const many = 1 << 30
	fail := func(n int) (before int) {
		store.mu.Lock()
		defer store.mu.Unlock()
		before, store.layoutFails = store.layoutFails, n
		return before
	}
	fail(many)
	unknown.data(0, 500) // its rows are promised all the room there is
	eventually(t, func() bool {
		store.mu.Lock()
		defer store.mu.Unlock()
		return store.layoutFails < many
	}, "the layout is asked for")
	known.data(1, 1)
	known.ackUpTo(2)
	require.Positive(t, fail(0), "it was still waiting")
	require.Zero(t, unknown.ackUpTo(500).Rejected)
}

// Names in the place of a layout's number declare one, once.
func TestLayoutOnTheFly(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	d := sv.connect(t, 1)
	d.send(d.encoder.Hello(wire.Hello{Model: "my probe"}))
	d.welcome()
	at := int(time.Now().UnixMilli())
	names := list{"temperature", "state", "on"}
	for i, values := range []list{
		{0, nil, "warm", nil}, // the kinds of two are not known yet
		{0, 21, nil, nil},
		{0, 22, "hot", true},
		{0, 23, "hotter", false},
	} {
		d.send(pack(list{3, i, 1, at, names, 0, values}))
	}
	require.Zero(t, d.ackUpTo(4).Rejected)
	stored := sv.store.stored(1)
	require.Equal(t, wire.Value{Kind: wire.ValueText, Text: []byte("warm")}, stored[0].values[1])
	require.Equal(t, wire.Value{Kind: wire.ValueBool, Number: 1}, stored[2].values[2])
	for _, layout := range sv.store.layouts {
		require.Equal(t, "my_probe", layout.Name)
	}
	require.LessOrEqual(t, len(sv.store.layouts), 3, "asked for once each")

	// A connection's names are its own: another one's kinds are not these.
	other := sv.connect(t, 2)
	other.send(pack(list{3, 0, 1, at, names, 0, list{0, "text here", 5, nil}}))
	other.welcome()
	require.Zero(t, other.ackUpTo(1).Rejected)
	require.Len(t, sv.gateway.hub.current(2).layouts, 1)
}

// Names in frames whose head is refused leave nothing behind, neither on their
// connection nor on those that use the same decoder later.
func TestLayoutOnTheFlyOfRefusedFramesIsForgotten(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	at := int(time.Now().UnixMilli())
	d := sv.join(t, 1)
	for i := range 100 {
		d.send(pack(list{3, i, 1, at, list{fmt.Sprint("name", i)}, "no step", list{0, 1}}))
		require.Equal(t, wire.CodeMalformed, d.ack().Rejects[0].Code)
	}
	for n := range 10 {
		d := sv.join(t, 2+n)
		d.send(pack(list{3, 0, 1, at, list{"v"}, 0, list{0, 1}}))
		require.Zero(t, d.ack().Rejected)
	}
	d.send(pack(list{3, 100, 1, at, list{"v"}, 0, list{0, 1}}))
	require.Zero(t, d.ack().Rejected)
}

// A refused declaration leaves its number undeclared.
func TestLayoutRefusedIsUndeclared(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	d := sv.join(t, 1)
	d.data(0, 1)
	require.Zero(t, d.ackUpTo(1).Rejected)
	d.send(pack(list{2, 1, "no good", list{list{"a"}}}))
	require.Equal(t, wire.NoticeLayoutRejected, d.notice().Kind)
	d.data(1, 1)
	require.Equal(t, wire.NoticeNeedLayout, d.notice().Kind)
	require.Equal(t, wire.CodeUnknownLayout, d.ack().Rejects[0].Code)
}
