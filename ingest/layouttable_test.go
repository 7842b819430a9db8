package ingest

import (
	"fmt"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

func TestLayoutTable(t *testing.T) {
	t.Parallel()
	var table layoutTable
	first, second, other := *twoNumbers(), *twoNumbers(), *twoNumbers()
	second.Number, other.Channels[1].Unit = 7, "K"
	table.share(&first)
	table.share(&second)
	require.Same(t, unsafe.SliceData(first.Channels), unsafe.SliceData(second.Channels))
	require.Equal(t, uint32(7), second.Number)
	table.share(&other)
	require.Equal(t, "K", other.Channels[1].Unit)
	require.Empty(t, first.Channels[1].Unit)
	for n := range 3 * maxSharedLayouts {
		table.share(&wire.Layout{Name: fmt.Sprint("layout ", n)})
		require.LessOrEqual(t, len(table.known), maxSharedLayouts)
	}
}
