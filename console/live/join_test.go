package live

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWholeIsWhatThePiecesAre: channels that were encoded as one piece are told
// as they would be one by one, and only to viewers that are to be told them all.
func TestWholeIsWhatThePiecesAre(t *testing.T) {
	t.Parallel()
	e := &entry{slots: []*slot{{channel: "a", unit: "V"}, {channel: "b"}, {channel: "c"}}}
	bring := func(change uint64, slots ...int) {
		for _, i := range slots {
			e.slots[i].bring(int64(change), 1, float64(change)*10+float64(i), nil, change)
		}
		e.readings = change
		e.join(change)
	}
	tell := func(v *viewer, behind uint64, units bool) string {
		text, rest := v.appendChannels(nil, e, 0, behind, units)
		require.Zero(t, rest)
		whole := e.whole
		e.whole = nil
		pieces, _ := v.appendChannels(nil, e, 0, behind, units)
		e.whole = whole
		require.Equal(t, string(pieces), string(text))
		return string(text)
	}
	all, some := &viewer{}, &viewer{filter: filter{channels: []string{"b"}}}
	each := func() {
		for behind := range uint64(6) {
			tell(all, behind, false)
			tell(all, behind, true)
			tell(some, behind, false)
		}
	}
	bring(1, 0, 1)
	require.Empty(t, e.whole, "c has no reading")
	each()
	bring(2, 0, 1, 2)
	require.NotEmpty(t, e.whole)
	require.Contains(t, tell(all, 1, false), `"value":22}}}`)
	each()
	bring(3, 1)
	require.Empty(t, e.whole, "a and c are as they were")
	require.NotContains(t, tell(all, 2, false), `"a"`)
	each()
	bring(4, 2, 0)
	bring(4, 1) // another layout's, in the same change
	require.NotEmpty(t, e.whole)
	each()
}
