package ingest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// source is a connection on which a device sends one frame after the other, as
// far as the window lets it.
type source struct {
	net.Conn
	frame   []byte // unmasked by a key of zeros
	seqAt   int    // where the sequence number stands
	rows    uint64
	left    int
	sent    uint64
	session *session
	acked   chan struct{}
	head    []byte // what is sent first
	rest    []byte // of the frame that a read did not take whole
}

func (s *source) Read(p []byte) (int, error) {
	if len(s.head) > 0 {
		n := copy(p, s.head)
		s.head = s.head[n:]
		return n, nil
	}
	if len(s.rest) == 0 {
		if s.left == 0 {
			return 0, io.EOF
		}
		for s.sent-s.session.acked.Load() >= 1000 {
			<-s.acked
		}
		binary.BigEndian.PutUint64(s.frame[s.seqAt:], s.sent*s.rows)
		s.left--
		s.sent++
		s.rest = s.frame
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *source) Write(p []byte) (int, error) {
	select {
	case s.acked <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (s *source) Close() error                     { return nil }
func (s *source) SetDeadline(time.Time) error      { return nil }
func (s *source) SetReadDeadline(time.Time) error  { return nil }
func (s *source) SetWriteDeadline(time.Time) error { return nil }

// nowhere takes rows and forgets them.
type nowhere struct{ *fakeStore }

func (nowhere) Write(context.Context, int, []byte, int, []int32) (Outcome, error) {
	return Outcome{}, nil
}

// AppendRow appends about what Postgres' binary COPY format takes.
func (nowhere) AppendRow(dst []byte, device, layout int32, row *wire.Row) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(row.Time))
	dst = binary.BigEndian.AppendUint64(dst, row.Seq)
	dst = binary.BigEndian.AppendUint32(dst, uint32(device))
	dst = binary.BigEndian.AppendUint32(dst, uint32(layout))
	for i := range row.Values {
		dst = binary.BigEndian.AppendUint32(dst, 8)
		dst = binary.BigEndian.AppendUint64(dst, uint64(row.Values[i].Number))
	}
	return dst
}

// unmasked is a client's WebSocket frame whose mask is zeros, so that it can be
// changed in place.
func unmasked(payload []byte) []byte {
	frame := masked(0x82, payload)
	at := len(frame) - len(payload)
	clear(frame[at-4 : at])
	copy(frame[at:], payload)
	return frame
}

// BenchmarkSession is the whole way of a frame but the sockets and the store:
// gws's loop, decoding, the shard, its writer, settling, and the ACK.
func BenchmarkSession(b *testing.B) {
	for _, rowsPerFrame := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("%d rows of 5", rowsPerFrame), func(b *testing.B) {
			registry := newFakeRegistry()
			g, err := New(Config{Window: 1024}, registry, registry, nowhere{newFakeStore()})
			require.NoError(b, err)
			require.NoError(b, g.Start(b.Context()))

			encoder := wire.NewEncoder()
			layout := wire.Layout{Number: 1, Name: "bench"}
			values := list{}
			for c := range 5 {
				layout.Channels = append(layout.Channels, wire.Channel{Name: fmt.Sprint("c", c)})
			}
			for range rowsPerFrame {
				values = append(values, 1000)
				for c := range 5 {
					values = append(values, float32(20.5)+float32(c))
				}
			}
			t0 := int(time.Now().Add(-time.Hour).UnixMilli())
			payload := pack(list{3, uint64(0), rowsPerFrame, t0, 1, 0, values})
			src := &source{rows: uint64(rowsPerFrame), left: b.N, acked: make(chan struct{}, 1)}
			src.frame = unmasked(payload)
			src.seqAt = len(src.frame) - len(payload) + 5 // array16, type, uint64
			src.head = append(unmasked(encoder.Hello(wire.Hello{})), unmasked(encoder.Layout(&layout))...)

			raw := newLink(src, nil, g.clock)
			socket, err := g.adopt(raw, g.plainUpgrader, anyHandshake)
			require.NoError(b, err)
			raw.upgraded = true
			g.connections.Add(1)
			b.SetBytes(int64(len(src.frame)))
			b.ReportAllocs()
			b.ResetTimer()
			// The source needs its session before it is read from; begin starts the
			// reading, so it is held up by the channel.
			ready := make(chan struct{})
			raw.Conn = &held{source: src, ready: ready}
			require.True(b, g.begin(socket, raw, &guest{device: Device{ID: 1}}))
			src.session = raw.session
			close(ready)
			g.sessions.Wait()
			require.NoError(b, g.Stop(b.Context()))
			b.StopTimer()
			stats := g.Stats()
			require.Equal(b, uint64(b.N*rowsPerFrame), stats.RowsCommitted, "closed for %+v", raw.session.reason)
			b.ReportMetric(float64(b.N*rowsPerFrame)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

type held struct {
	*source
	ready chan struct{}
}

func (h *held) Read(p []byte) (int, error) {
	<-h.ready
	return h.source.Read(p)
}

// BenchmarkAcks settles and acknowledges one frame of each of 10,000 sessions.
func BenchmarkAcks(b *testing.B) {
	sh := looseShard(Config{}, newFakeStore())
	var sessions []*session
	for n := range int32(10_000) {
		s := loose(sh, n)
		s.link.Conn = &source{acked: make(chan struct{}, 1)}
		s.flushing = false
		sessions = append(sessions, s)
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, s := range sessions {
			s.frames++
			_ = sh.add(b.Context(), &entry{session: s, rows: nil, next: s.frames, received: 1}, 0)
		}
		batch := sh.take()
		sh.settle(batch, Outcome{})
		sh.recycle(batch)
		for _, s := range sessions {
			for s.acked.Load() != s.frames {
				runtime.Gosched()
			}
		}
	}
	b.ReportMetric(float64(b.N)*10_000/b.Elapsed().Seconds(), "acks/s")
	for _, s := range sessions {
		s.gateway.flushers.Wait()
	}
}

// BenchmarkIdleConnection tells what a connection that says nothing costs in
// heap and stacks, the client's file descriptor in the same process included.
func BenchmarkIdleConnection(b *testing.B) {
	cfg := quick()
	cfg.RestAfter = 100 * time.Millisecond
	sv := serve(b, cfg, newFakeStore())
	memory := func() (heap, stacks int64) {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc), int64(m.StackInuse)
	}
	const connections = 1500
	heap, stacks := memory()
	var all []net.Conn
	for n := range connections {
		d := sv.join(b, n)
		d.data(0, 1)
		d.ackUpTo(1)
		all = append(all, d.conn)
	}
	sv.rests(b, connections)
	heapNow, stacksNow := memory()
	for b.Loop() {
	}
	b.ReportMetric(float64(heapNow-heap)/connections, "heap-B/connection")
	b.ReportMetric(float64(stacksNow-stacks)/connections, "stack-B/connection")
	for _, conn := range all {
		conn.Close()
	}
}
