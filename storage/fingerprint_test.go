package storage

import (
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

func TestFingerprintIsRememberedByContent(t *testing.T) {
	t.Parallel()
	var l layouts
	layout := wire.Layout{Name: "env", Channels: []wire.Channel{{Name: "a"}, {Name: "b", Unit: "K"}}}
	for range 2 {
		require.Equal(t, wire.FingerprintLayout(layout.Name, layout.Channels), l.fingerprint(&layout))
	}
	layout.Channels[1].Unit = "°C" // the caller's, and it may do so
	require.Equal(t, wire.FingerprintLayout(layout.Name, layout.Channels), l.fingerprint(&layout))
	layout.Name = "other"
	require.Equal(t, wire.FingerprintLayout(layout.Name, layout.Channels), l.fingerprint(&layout))
	layout.Channels = layout.Channels[:1]
	require.Equal(t, wire.FingerprintLayout(layout.Name, layout.Channels), l.fingerprint(&layout))
}
