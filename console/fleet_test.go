package console

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/devices"
)

func TestRates(t *testing.T) {
	t.Parallel()
	var f figures
	start := time.Unix(1000, 0)
	var fleet Fleet
	f.add(start, Gauges{RowsSettled: 100}, &fleet)
	require.Zero(t, fleet.RowsPerS, "one point has no rate")
	for i := 1; i <= 10; i++ {
		f.add(start.Add(time.Duration(i)*time.Second), Gauges{RowsSettled: 100 + uint64(i)*50, RowsRefused: uint64(i), AckP99: 2 * time.Millisecond}, &fleet)
	}
	require.InDelta(t, 50, fleet.RowsPerS, 1e-9)
	require.InDelta(t, 60, fleet.RefusedPerM, 1e-9)
	require.InDelta(t, 3, fleet.OverS, 1e-9)
	require.InDelta(t, 2, fleet.AckP99, 1e-9)
	require.Less(t, len(f.points), 6, "old points go")
	f.add(start.Add(13*time.Second), Gauges{RowsSettled: 600}, &fleet)
	require.Zero(t, fleet.RowsPerS)
}

func TestFleet(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	_, err := s.admin.AddMany(t.Context(), devices.NewDevices{Prefix: "pump-", Count: 3})
	require.NoError(t, err)
	now := time.Now()
	s.api.now = func() time.Time { return now }
	fleet := get[Fleet](s, "/fleet")
	require.Equal(t, 3, fleet.Devices)
	require.Zero(t, fleet.Online)
	require.Positive(t, fleet.OverS, "the first answer has rates: since the start")
	require.Positive(t, fleet.RowsPerS)
	require.Equal(t, fleet.Time, get[Fleet](s, "/fleet").Time, "asked again at once, the answer is the same")
}

func TestSparklines(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for _, name := range []string{"valve", "pump", "silent"} {
		_, _, err := s.admin.Add(t.Context(), devices.NewDevice{Name: name})
		require.NoError(t, err)
	}
	now := time.Now()
	s.api.now = func() time.Time { return now } // not later, by as long as it takes to write
	s.write("valve", now.Add(-10*time.Minute), 300)
	s.write("pump", now.Add(-3*time.Hour), 1)
	lines := get[[]Sparklines](s, "/sparklines?device=valve&device=pump&device=silent&device=none&points=10&stretch=10m")
	require.Len(t, lines, 2, "only those that have a layout")
	require.Equal(t, "pump", lines[0].Device)
	require.InDelta(t, 0, *lines[0].Channels[0].Last, 0, "an old value is a value")
	require.Greater(t, time.Since(*lines[0].Channels[0].LastAt), 2*time.Hour)
	valve := lines[1].Channels
	require.Len(t, valve, 1, "texts have no line")
	require.Equal(t, "a", valve[0].Metric)
	require.Equal(t, "V", valve[0].Unit)
	require.Len(t, valve[0].Values, 10)
	require.NotNil(t, valve[0].Values[0])
	require.InDelta(t, 60, *valve[0].Values[0], 2, "the last of its step")
	require.Nil(t, valve[0].Values[9])
	require.InDelta(t, 299, *valve[0].Last, 0)
	require.Empty(t, get[[]Sparklines](s, "/sparklines?device=none"))

	many := strings.Repeat("device=x&", 101)
	for query, words := range map[string]string{
		"": "query.device", many: "query.device", "device=x&stretch=soon": "query.stretch", "device=x&stretch=1ms": "query.stretch",
		"device=x&points=1": "query.points", "device=x&channels=9": "query.channels",
	} {
		s.requireProblem(s.ask(devices.RoleViewer, http.MethodGet, "/sparklines?"+query, nil), 422, words)
	}
}

func TestWhy(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	_, _, err := s.admin.Add(t.Context(), devices.NewDevice{Name: "valve"})
	require.NoError(t, err)
	why := get[Why](s, "/devices/valve/why")
	require.Contains(t, why.Verdict, "never connected")
	require.NotEmpty(t, why.Advice)
	require.NotNil(t, why.Handshakes)
	require.NoError(t, s.admin.Disable(t.Context(), "valve"))
	require.Contains(t, get[Why](s, "/devices/valve/why").Verdict, "disabled")
	s.requireProblem(s.ask(devices.RoleViewer, http.MethodGet, fmt.Sprintf("/devices/%s/why", "none"), nil), 404, "no such device")
}
