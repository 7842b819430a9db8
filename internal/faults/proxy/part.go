package proxy

import "encoding/binary"

// cursor follows one direction of a connection: which part it is in, and how far.
type cursor struct {
	part   int
	offset int64 // bytes of the part that have passed
	size   int64 // of the part; -1: not known yet

	matched int    // bytes of the blank line that ends the handshake's message
	head    []byte // the handshake's message, up to maxHead bytes
	frame   [10]byte
}

// maxHead is what is kept of a handshake's message, in bytes.
const maxHead = 8 << 10

func newCursor() *cursor { return &cursor{size: -1} }

// beyondHead tells whether the handshake's message is complete.
func (c *cursor) beyondHead() bool { return c.part > 0 || c.size >= 0 }

// reached tells whether the cursor stands at the point.
func (c *cursor) reached(p Point) bool {
	if c.part != p.Part {
		return false
	}
	switch p.Offset {
	case End:
		return c.offset == c.size
	case Half:
		return c.size >= 0 && c.offset >= (c.size+1)/2
	default:
		return c.offset == p.Offset || c.offset == c.size && p.Offset > c.size
	}
}

// pass takes bytes until they end or the point is reached, and tells how many it
// took.
func (c *cursor) pass(bytes []byte, p Point) (n int, reached bool) {
	for {
		if c.reached(p) {
			return n, true
		}
		if n == len(bytes) {
			return n, false
		}
		if c.offset == c.size {
			c.part, c.offset, c.size = c.part+1, 0, -1
			continue // the point may be right here
		}
		step := 1
		if c.size >= 0 {
			step = int(min(int64(len(bytes)-n), c.until(p)))
		}
		c.take(bytes[n : n+step])
		n += step
	}
}

// until is how many bytes may be taken at once in a part whose size is known.
func (c *cursor) until(p Point) int64 {
	left := c.size - c.offset
	if c.part != p.Part {
		return left
	}
	at := p.Offset
	if at == Half {
		at = (c.size + 1) / 2
	}
	if at > c.offset {
		left = min(left, at-c.offset)
	}
	return left
}

// take moves over bytes of one part; one byte while its size is not known.
func (c *cursor) take(bytes []byte) {
	at := c.offset
	c.offset += int64(len(bytes))
	switch {
	case c.size >= 0:
	case c.part == 0:
		c.handshake(bytes[0])
	default:
		c.frame[at] = bytes[0]
		c.size = frameSize(c.frame[:at+1])
	}
}

// handshake looks for the blank line that ends an HTTP message without a body.
func (c *cursor) handshake(b byte) {
	if len(c.head) < maxHead {
		c.head = append(c.head, b)
	}
	const blank = "\r\n\r\n"
	switch b {
	case blank[c.matched]:
		c.matched++
	case blank[0]:
		c.matched = 1
	default:
		c.matched = 0
	}
	if c.matched == len(blank) {
		c.size = c.offset
	}
}

// frameSize is the size of the WebSocket frame that begins so (RFC 6455 §5.2),
// its header included; -1: not known yet.
func frameSize(begin []byte) int64 {
	if len(begin) < 2 {
		return -1
	}
	header, length := int64(2), int64(begin[1]&0x7F)
	switch length {
	case 126:
		if header = 4; len(begin) < 4 {
			return -1
		}
		length = int64(binary.BigEndian.Uint16(begin[2:]))
	case 127:
		if header = 10; len(begin) < 10 {
			return -1
		}
		length = int64(binary.BigEndian.Uint64(begin[2:]) & (1<<62 - 1))
	}
	if begin[1]&0x80 != 0 {
		header += 4 // the mask
	}
	return header + length
}
