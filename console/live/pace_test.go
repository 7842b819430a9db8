package live

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPaceKeepsItsMoments: beats come at moments of the viewer's own, also after
// one that was late, and never close behind each other.
func TestPaceKeepsItsMoments(t *testing.T) {
	t.Parallel()
	begun := time.Unix(1000, 0)
	p := newPace(time.Second)
	first := p.first(begun)
	require.GreaterOrEqual(t, first, 500*time.Millisecond)
	require.Less(t, first, 1500*time.Millisecond)
	at := begun.Add(first)
	phase := at
	for _, late := range []time.Duration{0, time.Millisecond, 499 * time.Millisecond, 500 * time.Millisecond, 501 * time.Millisecond, 999 * time.Millisecond, 7400 * time.Millisecond} {
		ended := at.Add(late)
		wait := p.next(ended)
		require.GreaterOrEqual(t, wait, 500*time.Millisecond, "late by %v", late)
		require.Less(t, wait, 1500*time.Millisecond, "late by %v", late)
		at = ended.Add(wait)
		require.Zero(t, at.Sub(phase)%time.Second, "late by %v", late)
	}
}

// TestPacesSpread: viewers that come together do not beat together.
func TestPacesSpread(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	tenths := make(map[time.Duration]int)
	for range 1000 {
		p := newPace(time.Second)
		tenths[p.first(now)%time.Second/(100*time.Millisecond)]++
	}
	for tenth := range time.Duration(10) {
		require.InDelta(t, 100, tenths[tenth], 70)
	}
}
