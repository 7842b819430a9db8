package ingest

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// TestPiecesOfAStream sends all kinds of frames in one stream, cut anywhere: it
// must not show which of them gws read and which link.
func TestPiecesOfAStream(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 7, 60, 300, 1024, 5000} {
		store := newFakeStore()
		sv := serve(t, quick(), store)
		d := sv.join(t, 1)
		var stream []byte
		next := uint64(0)
		for range 3 {
			for _, n := range []int{1, 1, 40, 1} { // 40: a length of 16 bits
				stream = append(stream, masked(finBinary, d.frame(next, n))...)
				next += uint64(n)
			}
			whole := d.frame(next, 2)
			stream = append(stream, masked(opBinary, whole[:5])...) // a message in three fragments
			stream = append(stream, masked(0x89, []byte("ping"))...)
			stream = append(stream, masked(0x00, whole[5:9])...)
			stream = append(stream, masked(0x80, whole[9:])...)
			next += 2
		}
		random := rand.New(rand.NewPCG(1, uint64(most)))
		for rest := stream; len(rest) > 0; {
			n := min(1+random.IntN(most), len(rest))
			d.raw(rest[:n])
			rest = rest[n:]
		}
		d.ackUpTo(next)
		stored := store.stored(1)
		require.Len(t, stored, int(next))
		for i, row := range stored {
			require.Equal(t, uint64(i), row.seq)
		}
	}
}

// TestPlain shows what link leaves to gws, which judges it.
func TestPlain(t *testing.T) {
	t.Parallel()
	good := masked(finBinary, []byte("abcdefghijk"))
	head, payload, ok := plain(append(slices.Clone(good), 1, 2, 3), 11)
	require.True(t, ok)
	unmask(payload, [4]byte(good[head-4:]))
	require.Equal(t, "abcdefghijk", string(payload))
	long := masked(finBinary, make([]byte, 300))
	_, payload, ok = plain(long, 300)
	require.True(t, ok)
	require.Len(t, payload, 300)

	with := func(at int, b byte) []byte { other := slices.Clone(good); other[at] = b; return other }
	for what, bytes := range map[string][]byte{
		"a reserved bit":      with(0, 0xC2),
		"a text":              with(0, 0x81),
		"a first fragment":    with(0, 0x02),
		"a continuation":      with(0, 0x80),
		"a Ping":              with(0, 0x89),
		"no mask":             with(1, 11),
		"half a payload":      good[:len(good)-1],
		"half a header":       good[:5],
		"half a length":       long[:7],
		"too much":            masked(finBinary, make([]byte, 12)),
		"a length of 64 bits": binary.BigEndian.AppendUint64([]byte{finBinary, maskBit | 127}, 1<<63),
	} {
		_, _, ok := plain(bytes, 11)
		require.False(t, ok, what)
	}
	_, _, ok = plain(long[:5], 300)
	require.False(t, ok)
}

// TestWhatCameBeforeABreachCounts puts frames and what ends the session into one
// piece: the frames are handled, what is behind is not.
func TestWhatCameBeforeABreachCounts(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	sv := serve(t, quick(), store)
	d := sv.join(t, 1)
	stream := slices.Concat(masked(finBinary, d.frame(0, 1)), masked(finBinary, d.frame(1, 1)),
		masked(0x81, []byte("text")), masked(finBinary, d.frame(2, 1)))
	d.raw(stream)
	d.closesWith(closeText.Code, true)
	eventually(t, func() bool { return store.count() == 2 }, "both are stored")
}

// TestNoFrameWithinAMessage: what comes in between a message's header and its end
// is its payload, even if it looks like a whole frame.
func TestNoFrameWithinAMessage(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	sv := serve(t, quick(), store)
	d := sv.join(t, 1)
	frame := d.frame(0, 1)
	key := [4]byte{frame[0] ^ finBinary, frame[1] ^ maskBit, 0, 0} // an empty binary message, with a mask
	for i := range frame {
		frame[i] ^= key[i&3]
	}
	d.raw(append([]byte{finBinary, maskBit | byte(len(frame))}, key[:]...))
	s := sv.gateway.hub.snapshot()[0]
	eventually(t, func() bool { return s.link.guard.began.Load() != 0 }, "the header is read")
	d.raw(frame)
	d.ackUpTo(1)
}

// TestRestOfALetter: what a socket had no room for follows, and nothing of it twice.
func TestRestOfALetter(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	d := sv.join(t, 1)
	s := sv.gateway.hub.snapshot()[0]
	s.mu.Lock()
	s.flushing = true
	s.outbox.pong, s.outbox.pongFor = true, []byte("abcdef")
	s.mu.Unlock()
	s.gateway.flushers.Add(1)
	l := &letter{encoder: wire.NewEncoder()}
	l.post = func(socket uintptr) bool {
		l.sent = writeNow(socket, l.bytes[:min(3, len(l.bytes))])
		return true
	}
	require.False(t, s.deliver(l), "the letter is the flusher's now")
	require.Equal(t, "abcdef", string(d.pong()))
	d.data(0, 1)
	d.ackUpTo(1)
}
