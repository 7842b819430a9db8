package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCloseClasses follows the table of PROTOCOL §9.1.
func TestCloseClasses(t *testing.T) {
	t.Parallel()
	table := map[CloseClass][]CloseCode{
		ClassRetry:    {4000, 4001, 4002, 4004, 1000, 1001, 1005, 1006, 1011, 1012, 4099, 0, 1015, 3000},
		ClassLater:    {4100, 4101, 4102, 4103, 1008, 1013, 4199, 4300, 4600, 5000},
		ClassFault:    {4200, 4201, 4202, 4203, 4204, 1002, 1003, 1007, 1009, 4299},
		ClassTerminal: {4500, 4501, 4502, 4599},
	}
	for class, codes := range table {
		for _, code := range codes {
			require.Equal(t, class, code.Class(), "%d", code)
		}
	}
	statuses := map[CloseClass][]int{
		ClassRetry:    {500, 502, 504, 408},
		ClassLater:    {429, 503, 200, 302},
		ClassFault:    {400, 426, 404, 405},
		ClassTerminal: {401, 403},
	}
	for class, list := range statuses {
		for _, status := range list {
			require.Equal(t, class, HTTPStatusClass(status), "%d", status)
		}
	}
	require.Equal(t, "DRAIN", CloseDrain.String())
	require.Equal(t, "REPLACED", CloseReplaced.String())
	require.Equal(t, "OTHER", CloseCode(4321).String())
	require.Equal(t, "R", ClassRetry.String())
	require.Equal(t, "T", ClassTerminal.String())
	require.Equal(t, "?", CloseClass(9).String())
}

func TestCodes(t *testing.T) {
	t.Parallel()
	require.Equal(t, "UNKNOWN_LAYOUT", CodeUnknownLayout.String())
	require.Equal(t, "OTHER", Code(200).String())
	require.True(t, CodeStorage.Final())
	require.False(t, CodeUnknownLayout.Final())
}
