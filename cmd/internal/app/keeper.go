package app

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A keeper gives memory back to the system when the server has become quiet, for
// example after all devices have connected at once: their handshakes leave
// several times of garbage what the connections keep, and the runtime itself
// collects it only when as much again has been allocated, or after two minutes.
// A server that stores rows is not quiet, although frames are handled without
// allocations: what tidying up takes of the processors, COPY lacks. It has one goroutine, from start to stop. docs/decisions/101 has the figures.
type keeper struct {
	renew   func()        // gives connections at rest smaller stacks
	frames  func() uint64 // how many came with rows so far
	restore func()        // the runtime's own habits
	end     chan struct{}
	ended   chan struct{}
	samples []metrics.Sample

	percent   int       // GOGC as it is set; 0: the environment says it
	glanced   uint64    // bytes ever allocated, at the last glance
	allocated uint64    // the same, at the last look
	taken     uint64    // frames with rows, at the last look
	tidied    uint64    // bytes resident after the last tidying, or at the start
	calm      int       // looks in a row at which it was quiet
	before    time.Time // not to be tidied before
}

const (
	keeperLook = 2 * time.Second
	// The server is quiet while it allocates less than this between two looks, takes
	// in fewer frames with rows, and has been for long enough after so many looks:
	// connections are at rest by then.
	keeperQuiet  = 4 << 20
	keeperFrames = 1000
	keeperCalm   = 2
	// Tidying up takes some 20 ms for 1,000 connections. The next time is not
	// before so much, and not before so many times as long as it took.
	keeperPause = 5 * time.Second
	keeperShare = 30
	// Less than a part of what is resident, and this, on top of last time's is not
	// worth it.
	keeperPart  = 25
	keeperSlack = 4 << 20

	// keeperPercent is the runtime's GOGC: garbage is collected when half as much
	// as is in use has been allocated.
	keeperPercent = 50
	// While more than this is allocated between two glances, as when devices connect
	// by the thousand a second, it is collected later.
	keeperGlance       = 250 * time.Millisecond
	keeperStorm        = 4 << 20
	keeperStormPercent = 200
)

// startKeeper starts a keeper, and has the runtime collect garbage sooner than
// its default, unless GOGC in the environment says when.
func startKeeper(renew func(), frames func() uint64) *keeper {
	k := &keeper{renew: renew, frames: frames, end: make(chan struct{}), ended: make(chan struct{}), samples: []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
	}}
	k.restore = func() {}
	if os.Getenv("GOGC") == "" {
		k.percent = keeperPercent
		before := debug.SetGCPercent(k.percent)
		k.restore = func() { debug.SetGCPercent(before) }
	}
	k.allocated, k.tidied = k.read()
	k.glanced = k.allocated
	go k.run()
	return k
}

// stop ends the keeper and waits for it.
func (k *keeper) stop(context.Context) error {
	close(k.end)
	<-k.ended
	k.restore()
	return nil
}

func (k *keeper) run() {
	defer close(k.ended)
	glances, looks := time.NewTicker(keeperGlance), time.NewTicker(keeperLook)
	defer glances.Stop()
	defer looks.Stop()
	for {
		select {
		case <-k.end:
			return
		case <-glances.C:
			allocated, _ := k.read()
			if percent := k.pace(allocated); percent != k.percent {
				k.percent = percent
				debug.SetGCPercent(percent)
			}
		case now := <-looks.C:
			allocated, resident := k.read()
			if k.due(now, allocated, resident, k.frames()) {
				k.tidy(now)
			}
		}
	}
}

// pace decides how soon garbage is to be collected.
func (k *keeper) pace(allocated uint64) (percent int) {
	lately := allocated - k.glanced
	k.glanced = allocated
	switch {
	case k.percent == 0:
		return 0
	case lately > keeperStorm:
		return keeperStormPercent
	default:
		return keeperPercent
	}
}

// read tells how many bytes were ever allocated and how many are resident.
func (k *keeper) read() (allocated, resident uint64) {
	metrics.Read(k.samples)
	return k.samples[0].Value.Uint64(), k.samples[1].Value.Uint64() - k.samples[2].Value.Uint64()
}

// due decides whether it is time to tidy up.
func (k *keeper) due(now time.Time, allocated, resident, frames uint64) bool {
	if allocated-k.allocated < keeperQuiet && frames-k.taken < keeperFrames {
		k.calm++
	} else {
		k.calm = 0
	}
	k.allocated, k.taken = allocated, frames
	return k.calm >= keeperCalm && !now.Before(k.before) && resident > k.tidied+k.tidied/keeperPart+keeperSlack
}

// tidy collects garbage twice: after the first time the runtime knows how large
// stacks need to be, and the second returns the memory.
func (k *keeper) tidy(begun time.Time) {
	runtime.GC()
	k.renew()
	debug.FreeOSMemory()
	k.allocated, k.tidied = k.read()
	now := time.Now()
	k.before = now.Add(max(keeperPause, keeperShare*now.Sub(begun)))
}
