package terminal

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a device says of itself must not tell the operator's terminal what to do.
func TestTablesHoldNoControlSequences(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	Table(&out, []string{"device", "model"}, [][]string{
		{"boiler-7", "pump\x1b[2J\x1b]0;owned\x07"}, {"b", "\u009b31m"}, {"c", "\x9b31m"}, {"d", "°C, 日本"},
	})
	for _, control := range []string{"\x1b", "\x07", "\u009b", "\x9b31m"} {
		require.NotContains(t, out.String(), control)
	}
	require.Contains(t, out.String(), `pump\x1b[2J\x1b]0;owned\x07`, "and yet it can be seen")
	require.Contains(t, out.String(), "°C, 日本")
	require.Equal(t, "one\n\ttwo", Plain("one\n\ttwo"))
}
