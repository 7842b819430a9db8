package ingest

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// bystander is a healthy device that goes on sending while others misbehave.
type bystander struct {
	sv     *server
	device *device
	acked  atomic.Uint64 // frames
	slow   time.Duration // the longest wait for an ACK
	stop   chan struct{}
	once   sync.Once
	done   chan struct{}
	err    error
}

// bystanderRows is the number of rows in each of its frames.
const bystanderRows = 5

// bystander connects device number n and lets it send until the test ends.
func (sv *server) bystander(t *testing.T, n int) *bystander {
	t.Helper()
	sv.store.mu.Lock()
	sv.store.healthy = int32(n)
	sv.store.mu.Unlock()
	b := &bystander{sv: sv, device: sv.join(t, n), stop: make(chan struct{}), done: make(chan struct{})}
	go b.run()
	t.Cleanup(func() {
		b.end()
		<-b.done
	})
	b.goesOn(t)
	return b
}

func (b *bystander) end() { b.once.Do(func() { close(b.stop) }) }

// run sends a frame every few milliseconds and waits for its ACK.
func (b *bystander) run() {
	defer close(b.done)
	pace := time.NewTicker(3 * time.Millisecond)
	defer pace.Stop()
	for seq := uint64(0); ; seq += bystanderRows {
		select {
		case <-pace.C:
		case <-b.stop:
			return
		}
		begun := time.Now()
		if b.err = b.round(seq); b.err != nil {
			return
		}
		b.slow = max(b.slow, time.Since(begun))
		b.acked.Add(1)
	}
}

// round sends one frame and reads up to the ACK that settles it.
func (b *bystander) round(seq uint64) error {
	d := b.device
	frame, err := d.encoder.Data(&wire.Data{Seq: seq, Layout: 1, Rows: rows(seq, bystanderRows)})
	if err != nil {
		return err
	}
	_ = d.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := d.conn.Write(masked(0x82, frame)); err != nil {
		return fmt.Errorf("the healthy device could not send: %w", err)
	}
	for {
		opcode, payload, err := d.message()
		switch {
		case err != nil:
			return fmt.Errorf("the healthy device got no ACK: %w", err)
		case opcode == opPing || opcode == opPong:
			continue
		case opcode != opBinary:
			return fmt.Errorf("the healthy device got opcode %d: %q", opcode, payload)
		}
		ack, err := d.decoder.Ack(payload)
		if err != nil {
			return fmt.Errorf("the healthy device got %x: %w", payload, err)
		}
		if ack.Rejected > 0 {
			return errors.New("the healthy device's rows were refused")
		}
		if ack.Next == seq+bystanderRows {
			return nil
		}
	}
}

// goesOn waits until a few more frames are acknowledged.
func (b *bystander) goesOn(t *testing.T) {
	t.Helper()
	before := b.acked.Load()
	eventually(t, func() bool {
		select {
		case <-b.done:
			return true
		default:
			return b.acked.Load() >= before+3
		}
	}, "the healthy device is acknowledged")
	select {
	case <-b.done:
		require.NoError(t, b.err)
	default:
	}
}

// lostNothing ends it and sees that every row it sent is stored, as it was sent.
func (b *bystander) lostNothing(t *testing.T) {
	t.Helper()
	b.end()
	<-b.done
	require.NoError(t, b.err)
	sent := b.acked.Load() * bystanderRows
	require.NotZero(t, sent)
	store := b.sv.store
	store.mu.Lock()
	defer store.mu.Unlock()
	require.Empty(t, store.strange, "as it was sent, once, in order")
	require.Equal(t, sent, store.seen)
	t.Logf("%d rows of the healthy device acknowledged and stored, the longest ACK took %v", sent, b.slow)
}

// footprint is what attacks must not leave behind.
type footprint struct {
	goroutines, connections, sessions int
	heap                              uint64
}

func (sv *server) footprint() footprint {
	runtime.GC()
	runtime.GC() // what sync.Pools hold survives one
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return footprint{
		goroutines:  runtime.NumGoroutine(),
		connections: sv.gateway.Stats().Connections,
		sessions:    len(sv.gateway.hub.snapshot()),
		heap:        memory.HeapAlloc,
	}
}

// heapSlack is what the heap may have grown by for other reasons than the
// attack: the runtime's own.
const heapSlack = 2 << 20

// settlesTo waits until everything is as it was before. Not for parallel tests:
// the counts are those of the process.
func (sv *server) settlesTo(t *testing.T, before footprint) {
	t.Helper()
	var now footprint
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		now = sv.footprint()
		if now.goroutines <= before.goroutines && now.connections == before.connections &&
			now.sessions == before.sessions && now.heap <= before.heap+heapSlack {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
	stacks := make([]byte, 64<<10)
	require.Failf(t, "something is left behind", "before %+v, now %+v\n%s", before, now, stacks[:runtime.Stack(stacks, true)])
}
