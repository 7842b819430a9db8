package bench

import (
	"bufio"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// TestPacerKeepsTheRate: what is asked for is sent, to the frame, and nothing late;
// by a clock of its own, since a busy machine sends later.
func TestPacerKeepsTheRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const devices, rate, span = 20, 2000, 10 * time.Second
		l := &load{template: newTemplate(tenRows)}
		var came atomic.Int64 // frames
		var servers sync.WaitGroup
		var ends []net.Conn
		for range devices {
			here, there := net.Pipe()
			ends = append(ends, here, there)
			l.fleet = append(l.fleet, &device{conn: here, reader: bufio.NewReaderSize(here, deviceReadBuffer), window: 1})
			acks := make(chan uint64, steadyWindow)
			servers.Go(func() {
				defer close(acks)
				frame := make([]byte, len(l.template.bytes))
				for next := uint64(l.template.rows); ; next += uint64(l.template.rows) {
					if _, err := io.ReadFull(there, frame); err != nil {
						return
					}
					came.Add(1)
					acks <- next
				}
			})
			servers.Go(func() {
				encoder := wire.NewEncoder()
				for next := range acks {
					frame := encoder.Ack(&wire.Ack{Next: next, Window: 1})
					_, _ = there.Write(append([]byte{0x82, byte(len(frame))}, frame...))
				}
			})
		}
		p := &pacer{load: l, latency: newLatency()}
		p.start(rate)
		time.Sleep(span)
		synctest.Wait()
		require.InDelta(t, span.Seconds()*rate/float64(l.template.rows), came.Load(), 1)
		p.stop()
		require.NoError(t, l.end())
		require.Zero(t, p.late)
		for _, end := range ends {
			_ = end.Close()
		}
		servers.Wait()
	})
}
