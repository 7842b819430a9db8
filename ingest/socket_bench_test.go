package ingest

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// BenchmarkSockets is the gateway under load over real sockets, devices in the
// same process: 100 of them send frames of 10 rows of 2 numbers as fast as their
// window lets them; the store forgets.
func BenchmarkSockets(b *testing.B) {
	registry := newFakeRegistry()
	gateway, err := New(Config{DrainGrace: time.Millisecond}, registry, registry, nowhere{newFakeStore()})
	require.NoError(b, err)
	sv := &server{gateway: gateway, registry: registry}
	sv.listen(b)
	const devices, rowsPerFrame = 100, 10
	frames := b.N/devices + 1
	b.ReportAllocs()
	b.ResetTimer()
	var busy sync.WaitGroup
	for n := range devices {
		d := sv.join(b, n)
		busy.Go(func() { d.hurry(frames, rowsPerFrame) })
	}
	busy.Wait()
	b.StopTimer()
	stats := gateway.Stats()
	require.Equal(b, uint64(devices*frames*rowsPerFrame), stats.RowsCommitted)
	b.ReportMetric(float64(stats.RowsCommitted)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(stats.AckP50.Microseconds()), "ack-p50-µs")
	b.ReportMetric(float64(stats.AckP99.Microseconds()), "ack-p99-µs")
}

// hurry sends frames as fast as the window allows, until all are acknowledged.
func (d *device) hurry(frames, rowsPerFrame int) {
	payload := pack(list{3, uint64(0), rowsPerFrame, int(time.Now().UnixMilli()), 1, 0, repeat(1, 3*rowsPerFrame)})
	frame := unmasked(payload)
	seqAt := len(frame) - len(payload) + 5
	acked, sent := 0, 0
	for acked < frames {
		for sent < frames && sent-acked < 16 {
			binary.BigEndian.PutUint64(frame[seqAt:], uint64(sent*rowsPerFrame))
			if _, err := d.conn.Write(frame); err != nil {
				return
			}
			sent++
		}
		opcode, message, err := d.message()
		if err != nil || opcode == opClose {
			return
		}
		if kind, err := wire.FrameTypeOf(message); opcode == opBinary && err == nil && kind == wire.FrameAck {
			if ack, err := d.decoder.Ack(message); err == nil {
				acked = int(ack.Next) / rowsPerFrame
			}
		}
	}
}
