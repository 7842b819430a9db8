package ingest

import (
	"sync/atomic"
	"time"
)

// pace is the window that keeps acks prompt when PostgreSQL is the limit. A row
// waits for the batch that is being written and then for its own, so with full
// windows from many devices the ack of each takes as long as all of their rows
// take together: seconds, and no row is written sooner for it. While a write of a
// large batch takes longer than Config.AckGoal, windows are made smaller, until
// it does not, or until batches are no longer large; smaller ones would cost
// throughput.
type pace struct {
	below atomic.Int32 // how much smaller than Config.Window
}

// largeBatch is the size, in encoded bytes, from which a batch takes long for
// what it holds and not for what any commit costs: some 10,000 rows, with which
// COPY is near its full speed (docs/PERFORMANCE.md).
const largeBatch = 1 << 20

// wrote learns from a write of so many bytes that took so long. At once one
// step: an outage, which is one very long write, must not leave windows small.
func (p *pace) wrote(bytes int, took time.Duration, cfg *Config) {
	window := p.window(cfg)
	switch {
	case took > cfg.AckGoal && bytes >= largeBatch:
		window -= max(window/4, 1)
	case took < cfg.AckGoal/2 || bytes < largeBatch/2:
		window++
	}
	p.below.Store(int32(cfg.Window - min(max(window, 1), cfg.Window)))
}

// window is how many frames a device may have unacknowledged.
func (p *pace) window(cfg *Config) int { return cfg.Window - int(p.below.Load()) }

// window is what ACKs grant now.
func (sh *shard) window() int {
	if sh.pressed.Load() {
		return 1
	}
	return sh.pace.window(sh.cfg)
}
