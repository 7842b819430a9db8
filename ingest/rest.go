package ingest

import (
	"bufio"
	"errors"
	"net/http"
	"time"

	"github.com/lxzan/gws"
)

// A connection that has been silent for Config.RestAfter goes to rest: gws's
// loop ends, its buffer goes back to the pool, and a fresh goroutine waits for
// the socket to become readable. It needs no more than the 2 KiB of stack that
// every goroutine begins with; the one that decoded frames had grown to 8. With
// the first byte gws reads again, as if the connection had just been upgraded.
//
// Only at the end of a message can that be done, because what gws knows of a
// message half received would be lost: link counts bytes to know. And only on
// sockets that can be waited on without reading from them; TLS connections, which
// can't, keep their buffers.

// errRest ends gws's loop and not the connection.
var errRest = errors.New("nothing has come in for a while")

// run is the connection's goroutine while something comes in.
func (s *session) run(socket *gws.Conn) {
	s.read(socket)
	l := s.link
	if !l.resting {
		s.leave()
		return
	}
	s.gateway.readers.Put(l.reader)
	l.reader = nil
	go s.rest() // a goroutine's stack is never made smaller than a few frames of gws's need
}

// rest is the connection's goroutine while nothing comes in. No function called
// from here before something does may need much stack.
func (s *session) rest() {
	s.gateway.resting.Add(1)
	s.link.sleep()
	s.gateway.resting.Add(-1)
	s.wake()
}

// wake reads again.
func (s *session) wake() {
	if s.link.over() {
		s.leave()
		return
	}
	g := s.gateway
	s.link.resting, s.link.woken, s.link.brief = false, true, false
	socket, err := g.adopt(s.link, g.plainUpgrader, anyHandshake)
	if err != nil { // can't be: the request was taken before, and link swallows the answer
		s.readErr = err
		s.leave()
		return
	}
	s.link.drowsy.Store(false)
	g.hub.attend(s)
	s.run(socket)
}

// anyHandshake is a request that gws takes.
var anyHandshake = handshakeRequest("AAAAAAAAAAAAAAAAAAAAAA==", false)

// adopt makes a connection gws's, with a buffer of the pool. gws puts the buffer
// into a pool of its own when its loop ends, but never takes one out of there
// save in functions that are not used here.
func (g *Gateway) adopt(l *link, upgrader *gws.Upgrader, handshake *http.Request) (*gws.Conn, error) {
	l.reader = g.readers.Get().(*bufio.Reader)
	l.reader.Reset(l)
	return upgrader.UpgradeFromConn(l, l.reader, handshake)
}

// messageEnded notes that gws hands over a whole message: what it has been given
// beyond that begins another one.
func (l *link) messageEnded() { l.unended, l.woken, l.brief = l.reader.Buffered(), false, false }

// controlEnded notes that gws hands over a control frame. If that is all that
// came in since the last message ended, no message is half received.
func (l *link) controlEnded(payload []byte) {
	const head = 2 + 4 // and a mask (RFC 6455 §5.2, §5.5)
	if buffered := l.reader.Buffered(); l.unended-buffered == head+len(payload) {
		l.unended = buffered
		l.brief = l.woken
	}
}

// nod asks the read goroutine to go to rest as soon as it waits for bytes. For
// the timers.
func (l *link) nod() {
	l.drowsy.Store(true)
	_ = l.SetReadDeadline(time.Unix(1, 0))
}

// stir takes nod back. For the read goroutine. A deadline that stop or pause set
// may be lost, but they set their flags before, and those are looked at before
// any waiting. One of a nod that comes late costs a wake-up for nothing.
func (l *link) stir() {
	_ = l.SetReadDeadline(time.Time{})
	l.drowsy.Store(false)
}

// sleep waits until there is something to read, an error perhaps, or reading is
// to end.
func (l *link) sleep() {
	l.drowsy.Store(true) // so that the timers let it be
	_ = l.SetReadDeadline(time.Time{})
	if l.stopped.Load() || l.paused.Load() {
		return
	}
	_ = l.raw.Read(l.readable)
}
