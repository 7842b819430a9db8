package ingest

import (
	"slices"
	"sync"

	"mooring/wire"
)

// maxSharedLayouts bounds a layoutTable; when it is full, it begins anew. Sessions
// keep what they have.
const maxSharedLayouts = 1024

// layoutTable lets sessions that declare the same layout hold one copy of it: of
// a fleet's devices most declare one of a few. The zero value is ready.
type layoutTable struct {
	mu    sync.Mutex
	known map[string]wire.Layout // the latest by name; never changed
}

// share makes layout use the memory of an equal one, or keeps it for others.
func (t *layoutTable) share(layout *wire.Layout) {
	t.mu.Lock()
	defer t.mu.Unlock()
	known, ok := t.known[layout.Name]
	if ok && slices.Equal(known.Channels, layout.Channels) {
		layout.Name, layout.Channels = known.Name, known.Channels
		return
	}
	if t.known == nil || len(t.known) >= maxSharedLayouts {
		t.known = make(map[string]wire.Layout)
	}
	t.known[layout.Name] = *layout
}
