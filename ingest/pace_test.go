package ingest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Large batches that take long make windows smaller, until they don't, and not
// for ever. What any commit costs, and an outage, don't.
func TestPaceOfAcks(t *testing.T) {
	t.Parallel()
	cfg := Config{}.withDefaults()
	var p pace
	require.Equal(t, 16, p.window(&cfg))
	for range 20 {
		p.wrote(largeBatch/2, time.Second, &cfg)
	}
	require.Equal(t, 16, p.window(&cfg), "slow commits of little")
	p.wrote(8*largeBatch, time.Hour, &cfg)
	require.Equal(t, 12, p.window(&cfg), "an outage is one step")

	// A database that takes 8 MiB a second, and devices whose full windows make
	// batches of 4 MiB: half a second each.
	batch := func() int { return p.window(&cfg) << 20 / 4 }
	took := func() time.Duration { return time.Duration(batch()) * time.Second / (8 << 20) }
	for range 50 {
		p.wrote(batch(), took(), &cfg)
	}
	require.LessOrEqual(t, took(), cfg.AckGoal)
	require.GreaterOrEqual(t, took(), cfg.AckGoal/2)
	for range 50 {
		p.wrote(8*largeBatch, time.Minute, &cfg)
	}
	require.Equal(t, 1, p.window(&cfg), "never none")
	for range 15 {
		p.wrote(100, time.Millisecond, &cfg)
	}
	require.Equal(t, 16, p.window(&cfg), "and back")
	p.wrote(100, time.Millisecond, &cfg)
	require.Equal(t, 16, p.window(&cfg), "never more")
}

// What the pace grants is what devices are told, and the full window again when
// it is over.
func TestPaceIsTold(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	d := sv.join(t, 1)
	d.data(0, 1)
	require.Equal(t, 16, d.ackUpTo(1).Window)
	s := sv.gateway.hub.current(1)
	s.shard.pace.below.Store(10)
	s.mu.Lock()
	s.outbox.ack = true
	s.kick()
	s.mu.Unlock()
	require.Equal(t, 6, d.ack().Window)
	s.shard.pace.below.Store(0)
	require.Equal(t, 16, d.ack().Window, "unsolicited")
}
