package terminal

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCount(t *testing.T) {
	t.Parallel()
	require.Equal(t, "1 session", Count(int64(1), "session"))
	require.Equal(t, "0 sessions", Count(0, "session"))
	require.Equal(t, "2 more devices", Count(uint64(2), "more device"))
}
