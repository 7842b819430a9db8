package app

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestKeeperWaitsForQuiet(t *testing.T) {
	t.Parallel()
	const mega = 1 << 20
	start := time.Now()
	k := &keeper{}
	require.False(t, k.due(start, 100*mega, 200*mega, 0), "it has just allocated")
	require.False(t, k.due(start, 101*mega, 200*mega, 0), "it may be catching its breath")
	require.True(t, k.due(start, 102*mega, 200*mega, 0), "now it is quiet, and nobody ever tidied up")
	k.tidied, k.before = 190*mega, start.Add(keeperPause)
	require.False(t, k.due(start.Add(keeperPause-1), 103*mega, 400*mega, 0), "it was only just done")
	require.False(t, k.due(start.Add(keeperPause), 104*mega, 200*mega, 0), "there is little to gain")
	require.False(t, k.due(start.Add(keeperPause), 150*mega, 400*mega, 0), "it is busy")
	require.False(t, k.due(start.Add(keeperPause), 151*mega, 400*mega, 0), "it was, just now")
	require.True(t, k.due(start.Add(keeperPause), 152*mega, 400*mega, 0))
}

func TestKeeperTidies(t *testing.T) {
	t.Parallel()
	renewed := 0
	k := startKeeper(func() { renewed++ }, func() uint64 { return 0 })
	require.NoError(t, k.stop(t.Context()))
	require.Positive(t, k.tidied, "what is resident at the start is no reason")
	k.tidy(time.Now())
	require.Equal(t, 1, renewed)
	require.Positive(t, k.tidied)
	require.True(t, k.before.After(time.Now()))
}

func TestKeeperCollectsLaterInAStorm(t *testing.T) {
	t.Parallel()
	k := &keeper{percent: keeperPercent}
	require.Equal(t, keeperPercent, k.pace(keeperStorm), "as ever")
	k.percent = k.pace(3 * keeperStorm)
	require.Equal(t, keeperStormPercent, k.percent)
	require.Equal(t, keeperStormPercent, k.pace(5*keeperStorm), "it goes on")
	require.Equal(t, keeperPercent, k.pace(5*keeperStorm+1), "it is over")
	k.percent = 0
	require.Zero(t, k.pace(9*keeperStorm), "the environment says it")
}

// TestKeeperLeavesTheProcessorsToRows: frames are handled without an allocation, so
// a server under load looks quiet to who sees allocations alone.
func TestKeeperLeavesTheProcessorsToRows(t *testing.T) {
	t.Parallel()
	const mega = 1 << 20
	start, frames := time.Now(), uint64(0)
	k := &keeper{}
	look := func(came uint64) bool {
		frames += came
		return k.due(start, 0, 200*mega, frames)
	}
	for range 10 {
		require.False(t, look(keeperFrames), "rows come")
	}
	require.False(t, look(keeperFrames-1), "it may be catching its breath")
	require.True(t, look(keeperFrames-1), "a few are no load")
}
