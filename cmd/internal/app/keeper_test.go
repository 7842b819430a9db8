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
	require.False(t, k.due(start, 100*mega, 200*mega), "it has just allocated")
	require.False(t, k.due(start, 101*mega, 200*mega), "it may be catching its breath")
	require.True(t, k.due(start, 102*mega, 200*mega), "now it is quiet, and nobody ever tidied up")
	k.tidied, k.before = 190*mega, start.Add(keeperPause)
	require.False(t, k.due(start.Add(keeperPause-1), 103*mega, 400*mega), "it was only just done")
	require.False(t, k.due(start.Add(keeperPause), 104*mega, 200*mega), "there is little to gain")
	require.False(t, k.due(start.Add(keeperPause), 150*mega, 400*mega), "it is busy")
	require.False(t, k.due(start.Add(keeperPause), 151*mega, 400*mega), "it was, just now")
	require.True(t, k.due(start.Add(keeperPause), 152*mega, 400*mega))
}

func TestKeeperTidies(t *testing.T) {
	t.Parallel()
	renewed := 0
	k := startKeeper(func() { renewed++ })
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
