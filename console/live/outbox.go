package live

import "sync"

// framing is how a transport wraps messages.
type framing interface {
	// begin appends what comes before a message.
	begin(dst []byte, kind string) []byte
	// end appends what comes behind the message that began at start; cursor may
	// be empty.
	end(dst []byte, start int, cursor []byte) []byte
}

// outbox gathers messages and writes them, many at a time. It holds one buffer,
// and that only from the first message of a beat until the last one is written:
// so what a viewer that does not read costs is one buffer, however much there is
// to tell. Of the viewer's writing goroutine alone.
type outbox struct {
	framing framing
	write   func(framed []byte, messages int) error

	buffer   *[]byte // nil: nothing waits
	start    int     // of the message that is open, its frame included; -1: none is
	messages int
}

// buffers are shared by all viewers: few write at the same time.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, messageBytes+messageBytes/2)
	return &b
}}

// begin ends the message before, writes what has grown large, and begins one;
// the caller appends to the result, and gives that to put.
func (o *outbox) begin(kind string) ([]byte, error) {
	if o.buffer == nil {
		o.buffer = buffers.Get().(*[]byte)
		*o.buffer, o.start, o.messages = (*o.buffer)[:0], -1, 0
	}
	o.close(nil)
	if len(*o.buffer) >= writeBytes {
		if err := o.flush(); err != nil {
			return nil, err
		}
	}
	dst := *o.buffer
	o.start = len(dst)
	dst = o.framing.begin(dst, kind)
	dst = append(dst, `{"type":"`...)
	dst = append(dst, kind...)
	return append(dst, '"'), nil
}

// put takes the message, which may still get a cursor.
func (o *outbox) put(dst []byte) { *o.buffer = dst }

// size is that of the message under way.
func (o *outbox) size(dst []byte) int { return len(dst) - o.start }

// close ends the open message.
func (o *outbox) close(cursor []byte) {
	if o.start < 0 {
		return
	}
	dst := *o.buffer
	if cursor != nil {
		dst = append(dst, `,"cursor":"`...)
		dst = append(dst, cursor...)
		dst = append(dst, '"')
	}
	dst = append(dst, '}')
	*o.buffer = o.framing.end(dst, o.start, cursor)
	o.start = -1
	o.messages++
}

// finish ends the beat: the last message gets the cursor, everything is written,
// and the buffer goes back.
func (o *outbox) finish(cursor []byte) error {
	if o.buffer == nil {
		return nil
	}
	o.close(cursor)
	err := o.flush()
	o.release()
	return err
}

func (o *outbox) flush() error {
	if len(*o.buffer) == 0 {
		return nil
	}
	err := o.write(*o.buffer, o.messages)
	*o.buffer, o.messages = (*o.buffer)[:0], 0
	return err
}

// release gives the buffer back, unless one large message has made it large.
func (o *outbox) release() {
	if o.buffer != nil && cap(*o.buffer) <= 2*writeBytes {
		buffers.Put(o.buffer)
	}
	o.buffer, o.start = nil, -1
}
