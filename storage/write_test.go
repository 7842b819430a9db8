package storage

import (
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/wire"
)

func TestRowsAreStoredAsSent(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var b batch
	b.add(f.devices[0], f.mixed, 7, base, number(21.5), boolean(true), text("äöü ok"))
	b.add(f.devices[0], f.mixed, 8, base+1, wire.Value{}, boolean(false), wire.Value{})
	b.add(f.devices[0], f.mixed, 1<<53, base+2, number(-0.0), wire.Value{}, text(""))
	outcome := f.write(t, &b)
	require.Empty(t, outcome)

	reader, err := OpenReader(t.Context(), f.url)
	require.NoError(t, err)
	defer reader.Close()
	var got []Sample
	require.NoError(t, reader.Samples(t.Context(), "dev-1", func(s Sample) error {
		got = append(got, s)
		s.Values = append([]wire.Value(nil), s.Values...)
		got[len(got)-1] = s
		return nil
	}))
	require.Len(t, got, 3)
	require.Equal(t, Sample{
		Time: base, Seq: 7, Layout: "boiler", Channels: mixedLayout.Channels,
		Values: []wire.Value{number(21.5), boolean(true), text("äöü ok")},
	}, got[0])
	require.Equal(t, []wire.Value{{}, boolean(false), {}}, got[1].Values)
	require.Equal(t, uint64(1<<53), got[2].Seq)
	require.Equal(t, wire.ValueText, got[2].Values[2].Kind, "an empty text is not no reading")
	require.Equal(t, 1, one[int](t, f.url, "SELECT count(*) FROM mooring.samples WHERE texts IS NULL"))
	require.Equal(t, 6, one[int](t, f.url, "SELECT count(*) FROM mooring.readings WHERE device = 'dev-1'"))
}
