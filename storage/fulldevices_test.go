package storage

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/wire"
)

// A device that declares a layout more than it may with every frame costs
// Postgres one question a minute, and goes on using the layouts it has.
func TestFullDeviceIsRefusedFromMemory(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t), func(c *Config) { c.MaxLayoutsPerDevice = 2 })
	full := f.devices[0] // has two already
	resolve := func(i int) error {
		_, err := f.ResolveLayout(t.Context(), full, &wire.Layout{Name: fmt.Sprintf("x%d", i), Channels: []wire.Channel{{Name: "c"}}})
		return err
	}
	require.ErrorIs(t, resolve(0), ErrLayoutRefused)
	f.layouts.pairs.Purge()
	execute(t, f.url, "ALTER TABLE mooring.layouts RENAME TO layouts_away") // whoever asks fails
	for i := range 100 {
		err := resolve(i)
		require.ErrorIs(t, err, ErrLayoutRefused)
		require.ErrorContains(t, err, "declared 2 layouts already")
	}
	execute(t, f.url, "ALTER TABLE mooring.layouts_away RENAME TO layouts")
	id, err := f.ResolveLayout(t.Context(), full, &numbersLayout)
	require.NoError(t, err, "what it has, it may use")
	require.Equal(t, f.numbers, id)
}
