package ingest

import "encoding/binary"

// What nearly all devices send nearly always is a message in one frame, in one
// piece: binary, masked, whole in the buffer. For a frame of one row gws's way of
// three reads from a buffer, a message taken from a pool and an allocation is a
// seventh of all that the gateway does (docs/decisions/102). So link.Read, where
// gws asks for bytes between two messages, handles such frames itself, and gws
// gets the first byte that is not of one. It is still the only judge of all else.

// The opcodes and bits of a frame's first two bytes (RFC 6455 §5.2).
const (
	finBinary = 0x80 | opBinary
	maskBit   = 0x80
)

// swift handles the plain messages at the beginning of p, and gives the number of
// bytes that they took. p begins with a frame, guard has seen it, and what is not
// given back is moved to its beginning.
func (l *link) swift(p []byte) (taken int) {
	s := l.session
	for {
		head, payload, ok := plain(p[taken:], s.gateway.cfg.MaxFrame)
		if !ok || s.ending.Load() {
			break
		}
		unmask(payload, [4]byte(p[taken+head-4:]))
		taken += head + len(payload)
		l.behind = len(p) - taken
		s.receive(opBinary, payload)
	}
	l.behind = 0
	if s.held.Load() && s.frames == 0 { // no ACK is to come
		s.release()
	}
	copy(p, p[taken:])
	return taken
}

// plain looks at the frame at the beginning of p: the size of its header and its
// payload. It is not ok if that is not a whole, masked binary message of at most
// most bytes.
func plain(p []byte, most int) (head int, payload []byte, ok bool) {
	if len(p) < 6 || p[0] != finBinary || p[1]&maskBit == 0 {
		return 0, nil, false
	}
	head, size := 6, int(p[1]&^maskBit)
	switch {
	case size < 126:
	case size == 126 && len(p) >= 8:
		head, size = 8, int(binary.BigEndian.Uint16(p[2:]))
	default:
		return 0, nil, false
	}
	if size > most || len(p) < head+size {
		return 0, nil, false
	}
	return head, p[head : head+size], true
}

// unmask takes a mask off (RFC 6455 §5.3).
func unmask(p []byte, mask [4]byte) {
	if mask == [4]byte{} {
		return
	}
	four := binary.LittleEndian.Uint32(mask[:])
	eight := uint64(four)<<32 | uint64(four)
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^eight)
		p = p[8:]
	}
	for i := range p {
		p[i] ^= mask[i&3]
	}
}
