package hostdevice

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

func TestMeasureHost(t *testing.T) {
	t.Parallel()
	measureHost(t.Context(), "/")
	values := measureHost(t.Context(), "/")
	require.Len(t, values, len(hostChannels))
	read := 0
	for i, value := range values {
		if value.Kind == wire.ValueNil {
			continue
		}
		read++
		require.Equal(t, wire.ValueNumber, value.Kind)
		require.GreaterOrEqual(t, value.Number, 0.0, hostChannels[i].Name)
		if hostChannels[i].Unit == "%" {
			require.LessOrEqual(t, value.Number, 100.0, hostChannels[i].Name)
		}
	}
	require.GreaterOrEqual(t, read, 5, "every system tells most of it")
}

func TestUnknownFileSystemIsNoReading(t *testing.T) {
	t.Parallel()
	values := measureHost(t.Context(), "/no/such/folder")
	require.Equal(t, wire.ValueNil, values[4].Kind)
	require.Equal(t, wire.ValueNil, values[5].Kind)
	require.NotEqual(t, wire.ValueNil, values[2].Kind, "the others are read all the same")
}

func TestTemperatureChannelsDiffer(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, reading := range measureTemperatures(t.Context()) {
		require.False(t, seen[reading.channel], reading.channel)
		seen[reading.channel] = true
	}
}

func TestChannelName(t *testing.T) {
	t.Parallel()
	allowed := regexp.MustCompile(`^[A-Za-z0-9_./-]{1,64}$`)
	for sensor, want := range map[string]string{
		"coretemp_core_0": "coretemp_core_0",
		"TC0P (CPU)":      "TC0P__CPU_",
		"größe":           "gr__e",
		"":                "sensor",
	} {
		require.Equal(t, want, channelName(sensor))
		require.Regexp(t, allowed, channelName(sensor))
	}
	require.Regexp(t, allowed, channelName(strings.Repeat("x", 200)))
}
