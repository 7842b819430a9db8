package ingest

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// attack is one way to misuse a connection. It runs on connections of its own and
// checks the answer; assault checks what it left behind.
type attack struct {
	name string
	run  func(t *testing.T, sv *server, n int)
}

// attackers is how many connections attack at the same time.
const attackers = 8

// attackHeap is what the heap may grow by while all of them do, the client's side
// in the same process included.
const attackHeap = 24 << 20

// assault lets each attack run on several connections at once, against a server
// that a healthy device uses. Memory stays bounded meanwhile; afterwards
// goroutines, connections, sessions and heap are what they were, and the healthy
// device lost nothing.
func assault(t *testing.T, cfg Config, attacks []attack) {
	t.Helper()
	assaultOn(t, serve(t, cfg, newFakeStore()), attacks)
}

func assaultOn(t *testing.T, sv *server, attacks []attack) {
	t.Helper()
	healthy := sv.bystander(t, 1)
	warmUp(t, sv)
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			before := sv.footprint()
			peak := watchHeap(t)
			var attackersDone sync.WaitGroup
			for i := range attackers {
				attackersDone.Go(func() { a.run(t, sv, 100+i) })
			}
			attackersDone.Wait()
			highest := peak()
			require.Less(t, highest, before.heap+attackHeap, "heap while under attack; before: %d", before.heap)
			healthy.goesOn(t)
			sv.settlesTo(t, before)
		})
	}
	healthy.lostNothing(t)
	require.Zero(t, sv.store.poisonedOrForeign(1), "nothing but the healthy device's rows is stored")
}

// warmUp fills pools and starts what lives on, so that it does not count as left
// behind.
func warmUp(t *testing.T, sv *server) {
	t.Helper()
	devices := make([]*device, attackers)
	for i := range devices {
		devices[i] = sv.join(t, 100+i)
	}
	for _, d := range devices {
		d.conn.Close()
	}
	eventually(t, func() bool { return sv.gateway.Stats().Connections == 1 }, "they are gone")
}

// watchHeap samples the heap until the returned function, which gives the largest
// sample, is called.
func watchHeap(t *testing.T) func() uint64 {
	t.Helper()
	stop, done := make(chan struct{}), make(chan uint64)
	go func() {
		var highest uint64
		ticker := time.NewTicker(2 * time.Millisecond)
		defer ticker.Stop()
		for {
			var memory runtime.MemStats
			runtime.ReadMemStats(&memory)
			highest = max(highest, memory.HeapAlloc)
			select {
			case <-ticker.C:
			case <-stop:
				done <- highest
				return
			}
		}
	}()
	return func() uint64 {
		close(stop)
		return <-done
	}
}

// poisonedOrForeign counts the rows that are not of this device.
func (f *fakeStore) poisonedOrForeign(device int32) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	foreign := 0
	for key := range f.rows {
		if key.device != device {
			foreign++
		}
	}
	return foreign
}

// shove writes bytes over and over until they are all out or the server has
// closed; what it thinks of them is read afterwards.
func (d *device) shove(piece []byte, times int) {
	block := bytes.Repeat(piece, max(1, 4096/len(piece)))
	_ = d.conn.SetWriteDeadline(time.Now().Add(patience))
	for left := len(piece) * times; left > 0; left -= len(block) {
		if _, err := d.conn.Write(block[:min(left, len(block))]); err != nil {
			return
		}
	}
}

// closing is an attack on a session that is answered with a close code.
func closing(name string, code wire.CloseCode, do func(d *device)) attack {
	return attack{name, func(t *testing.T, sv *server, n int) {
		t.Helper()
		d := sv.join(t, n)
		do(d)
		d.closesWith(code, true)
	}}
}

// sending is one that sends bytes once.
func sending(name string, code wire.CloseCode, pieces ...[]byte) attack {
	return closing(name, code, func(d *device) { d.raw(slices.Concat(pieces...)) })
}

// bare is a client's frame without its mask.
func bare(first byte, payload []byte) []byte {
	return append([]byte{first, byte(len(payload))}, payload...)
}

// announcing is a frame's head alone, with a length in 64 bits.
func announcing(first byte, length uint64) []byte {
	head := []byte{first, 0xFF}
	for shift := 56; shift >= 0; shift -= 8 {
		head = append(head, byte(length>>shift))
	}
	return append(head, 1, 2, 3, 4)
}

// Attacks with WebSocket frames, after a handshake that was in order.
func TestAttackFrames(t *testing.T) {
	ping, pong, empty := masked(0x89, make([]byte, 125)), masked(0x8A, nil), masked(0x00, nil)
	const flood = 20_000
	assault(t, quick(), []attack{
		sending("fourteen bytes", wire.CloseBadFrame, announcing(0x82, 1<<64-1)),
		sending("a length of 2^63", wire.CloseBadFrame, announcing(0x82, 1<<63)),
		sending("a length of 2^63-1", wire.CloseTooLarge, announcing(0x82, 1<<63-1)),
		sending("a length of 4 GiB", wire.CloseTooLarge, announcing(0x82, 1<<32)),
		sending("a continuation of 2^63", wire.CloseBadFrame, masked(0x02, nil), announcing(0x00, 1<<63)),
		sending("a Ping of 2^63", 1002, announcing(0x89, 1<<63)),

		closing("endless fragments of a byte", wire.CloseTooLarge, func(d *device) {
			d.raw(masked(0x02, []byte{0x96}))
			d.shove(masked(0x00, []byte{1}), flood)
		}),
		closing("endless fragments of 1 KiB", wire.CloseTooLarge, func(d *device) {
			d.raw(masked(0x02, []byte{0x96}))
			d.shove(masked(0x00, make([]byte, 1024)), 1000)
		}),
		closing("empty continuation frames without end", wire.CloseTooLarge, func(d *device) {
			d.raw(masked(0x02, nil))
			d.shove(empty, flood)
		}),

		closing("a flood of Pings", wire.CloseQuota, func(d *device) { d.shove(ping, 5000) }),
		closing("a flood of Pongs", wire.CloseQuota, func(d *device) { d.shove(pong, flood) }),
		closing("a flood of Pings inside of a message", wire.CloseQuota, func(d *device) {
			d.raw(masked(0x02, []byte{0x96}))
			d.shove(ping, 5000)
		}),
		closing("a flood of PING frames", wire.CloseQuota, func(d *device) {
			d.shove(masked(0x82, d.encoder.Ping(wire.Ping{Echo: 7})), 5000)
		}),
		closing("a flood of frames to be ignored", wire.CloseQuota, func(d *device) {
			d.shove(masked(0x82, []byte{0x91, 0x20}), flood)
		}),
		closing("a flood of LAYOUTs", wire.CloseQuota, func(d *device) {
			d.shove(masked(0x82, d.encoder.Layout(twoNumbers())), 2000)
		}),
		{"a flood of Pings by one who never reads", func(t *testing.T, sv *server, n int) {
			t.Helper()
			d := sv.join(t, n)
			d.shove(ping, 5000)
			sv.gone(t, n) // while d's end stays open and unread
			d.conn.Close()
		}},

		sending("unmasked", 1002, bare(0x82, []byte{0x91, 0x20})),
		sending("an unmasked Ping", 1002, bare(0x89, nil)),
		sending("reserved bit 1", 1002, masked(0xC2, []byte{0x91, 0x20})),
		sending("reserved bit 2", 1002, masked(0xA2, []byte{0x91, 0x20})),
		sending("reserved bit 3 of a Ping", 1002, masked(0x99, nil)),
		sending("reserved opcode 3", 1002, masked(0x83, nil)),
		sending("reserved opcode 15", 1002, masked(0x8F, nil)),
		sending("a Ping of 126 bytes", 1002, masked(0x89, make([]byte, 126))),
		sending("a Close of 126 bytes", 1002, masked(0x88, make([]byte, 126))),
		sending("a Ping in fragments", 1002, masked(0x09, nil), masked(0x80, nil)),
		sending("a continuation of nothing", 1002, masked(0x80, []byte{1})),
		sending("a message within a message", 1002, masked(0x02, []byte{1}), masked(0x82, []byte{1})),

		sending("text", wire.CloseText, masked(0x81, []byte(`{"t":21.5}`))),
		sending("text that is not UTF-8", wire.CloseText, masked(0x81, []byte("\xFF\xFE"))),
		sending("text in fragments", wire.CloseText, masked(0x01, []byte("\xC3")), masked(0x80, []byte("\xA4"))),
		sending("the bytes of a good frame, as text", wire.CloseText, masked(0x81, []byte{0x91, 0x20})),

		{"Close, and then a flood of rows", func(t *testing.T, sv *server, n int) {
			t.Helper()
			d := sv.join(t, n)
			d.raw(masked(0x88, []byte{0x03, 0xE8}))
			d.shove(masked(0x82, d.frame(0, 3)), 2000)
			// The answer may be lost to a reset, as rows lie unread; they are
			// stored by no means, which assault looks at.
			sv.gone(t, n)
			d.conn.Close()
		}},
		{"Close with a reason that is not UTF-8", func(t *testing.T, sv *server, n int) {
			t.Helper()
			d := sv.join(t, n)
			d.raw(masked(0x88, []byte{0x03, 0xE8, 0xFF}))
			d.closesWith(1007, false)
		}},
		{"a reset in the middle of a frame", func(t *testing.T, sv *server, n int) {
			t.Helper()
			for range 5 {
				d := sv.join(t, n)
				d.raw(announcing(0x82, 16<<10))
				require.NoError(t, d.conn.(*net.TCPConn).SetLinger(0))
				d.conn.Close()
			}
		}},
		{"the same device over and over", func(t *testing.T, sv *server, n int) {
			t.Helper()
			for range 20 {
				sv.join(t, n).raw([]byte{0x82, 0xFE})
			}
			sv.join(t, n).conn.Close()
		}},
	})
}

// Attacks by messages that never end. Floods are not among them: a busy machine may take
// longer for one than such a message has.
func TestAttackSlowFrames(t *testing.T) {
	cfg := quick()
	cfg.MessageTimeout = 300 * time.Millisecond
	assault(t, cfg, []attack{
		closing("max_frame announced, and silence", wire.CloseHeartbeat, func(d *device) {
			d.raw(announcing(0x82, 16<<10))
		}),
		closing("max_frame announced, and a byte now and then", wire.CloseHeartbeat, func(d *device) {
			d.raw(announcing(0x82, 16<<10))
			d.trickle([]byte{1})
		}),
		closing("half a frame's head, and silence", wire.CloseHeartbeat, func(d *device) { d.raw([]byte{0x82}) }),
		closing("half a Ping, and silence", wire.CloseHeartbeat, func(d *device) { d.raw(masked(0x89, make([]byte, 125))[:20]) }),
		closing("empty continuation frames, slowly", wire.CloseHeartbeat, func(d *device) {
			d.raw(masked(0x02, nil))
			d.trickle(masked(0x00, nil))
		}),
		closing("a message that is never ended", wire.CloseHeartbeat, func(d *device) {
			d.raw(masked(0x02, d.frame(0, 3)))
		}),
	})
}

// trickle sends a piece now and then until the server has closed.
func (d *device) trickle(piece []byte) {
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-pace.C {
		if _, err := d.conn.Write(piece); err != nil {
			return
		}
		_ = d.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := d.in.Peek(1); err == nil {
			return
		}
	}
}

// gone waits until no session of device number n is left.
func (sv *server) gone(t *testing.T, n int) {
	t.Helper()
	eventually(t, func() bool {
		return !slices.ContainsFunc(sv.gateway.hub.snapshot(), func(s *session) bool { return s.device.ID == int32(n) })
	}, fmt.Sprintf("no session of device %d is left", n))
}

// dial is a connection on which nothing has been said.
func (sv *server) dial(t *testing.T) *device {
	t.Helper()
	conn, err := net.Dial("tcp", sv.addr)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return newDevice(t, conn, bufio.NewReader(conn), nil)
}
