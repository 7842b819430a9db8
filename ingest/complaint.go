package ingest

import (
	"sync/atomic"
	"time"
)

// complainEvery is how often one thing that befalls many devices at once is
// logged; metrics count every case.
const complainEvery = int64(10 * time.Second)

// complaint keeps a log line from being written once for each device of a fleet.
type complaint struct {
	last    atomic.Int64 // by clock; 0: never
	skipped atomic.Uint64
}

// due says whether to log now, and how many cases were not logged before.
func (c *complaint) due(now int64) (skipped uint64, due bool) {
	last := c.last.Load()
	if last != 0 && now-last < complainEvery || !c.last.CompareAndSwap(last, max(now, 1)) {
		c.skipped.Add(1)
		return 0, false
	}
	return c.skipped.Swap(0), true
}
