package reply

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

func TestInterval(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		`{"ms": 500}`:  500 * time.Millisecond,
		`{"ms": 1.5}`:  1500 * time.Microsecond,
		`{"ms": 1}`:    time.Millisecond,
		`{"ms": 0.9}`:  0,
		`{"ms": 1001}`: 0,
		`{"ms": 1e99}`: 0,
		`{"ms": "x"}`:  0,
		`{}`:           0,
		`7`:            0,
	} {
		args, err := wire.ValueFromJSON([]byte(text))
		require.NoError(t, err)
		got, err := Interval(args, time.Millisecond, time.Second)
		require.Equal(t, want == 0, err != nil, text)
		require.Equal(t, want, got, text)
	}
	_, err := Interval(nil, time.Millisecond, time.Second)
	require.Error(t, err)
}

func TestWith(t *testing.T) {
	t.Parallel()
	result := With(wire.ResultDone, map[string]any{"rows": 3})
	text, err := wire.ValueToJSON(result.Detail)
	require.NoError(t, err)
	require.JSONEq(t, `{"rows":3}`, string(text))
}
