package ingest

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"mooring/wire"
)

func TestMetricsTellWhatHappened(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	cfg := quick()
	cfg.Registerer = registry
	sv := serve(t, cfg, newFakeStore())
	d := sv.join(t, 1)
	d.data(0, 5)
	d.data(7, 5)
	d.ackUpTo(12)
	sv.handshake(t, "GET", wire.StreamPath, nil)
	d.raw(masked(0x81, nil))
	d.closesWith(wire.CloseText, true)
	eventually(t, func() bool { return sv.gateway.Stats().Connections == 0 }, "it is gone")

	families, err := registry.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			name := family.GetName()
			if labels := metric.GetLabel(); len(labels) == 1 {
				name += " " + labels[0].GetValue()
			}
			switch {
			case metric.GetCounter() != nil:
				got[name] = metric.GetCounter().GetValue()
			case metric.GetGauge() != nil:
				got[name] = metric.GetGauge().GetValue()
			case metric.GetHistogram() != nil:
				got[name] = float64(metric.GetHistogram().GetSampleCount())
			}
		}
	}
	for name, want := range map[string]float64{
		"rows_total received": 10, "rows_total committed": 10, "rows_total lost": 2, "rows_total rejected": 0,
		"data_frames_total": 2, "frames_total hello": 1, "frames_total layout": 1, "closes_total text": 1,
		"handshake_refusals_total no_credential": 1, "connections": 0, "bytes_waiting": 0, "connections_opened_total": 1,
	} {
		value, ok := got["mooring_ingest_"+name]
		require.True(t, ok, name)
		require.InDelta(t, want, value, 0, name)
	}
	for _, name := range []string{"batch_rows", "batch_bytes", "write_seconds", "ack_seconds", "acks_total"} {
		require.Positive(t, got["mooring_ingest_"+name], name)
	}
	_, err = New(cfg, sv.registry, sv.registry, sv.store)
	require.Error(t, err, "registered twice")
}
