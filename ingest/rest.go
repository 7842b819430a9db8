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
// every goroutine begins with; the one that decoded frames had grown to 8. The
// Pongs to our own Pings it sees to itself, and a burst of plain messages too
// (burst.go); with anything else gws reads again, as if the connection had just been
// upgraded.
//
// Only at the end of a message can that be done, because what gws knows of a
// message half received would be lost: guard tells. And only on
// sockets that can be waited on without a buffer; TLS connections, which can't,
// keep theirs.

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
	go s.rest() // this goroutine's stack will not shrink that far
}

// rest is the connection's goroutine while nothing comes in. No function called
// from here before something does may need much stack.
func (s *session) rest() {
	s.gateway.resting.Add(1)
	s.link.sleep()
	s.gateway.resting.Add(-1)
	switch {
	case s.link.over(), s.link.broken:
		s.leave()
	case s.link.awaited:
		s.wake()
	default:
		go s.rest() // Renew's doing
	}
}

// Renew gives every connection at rest a fresh goroutine. The runtime starts
// goroutines with as much stack as those had on average that the last garbage
// collection saw; so connections that came to rest in a busy hour hold more than
// they need, until they wake up or are renewed.
func (g *Gateway) Renew() {
	for _, s := range g.hub.snapshot() {
		if s.link.drowsy.Load() {
			s.link.nod()
		}
	}
}

// wake reads what has come in, and goes on reading unless that was all for now.
func (s *session) wake() {
	g := s.gateway
	s.link.woken, s.link.heeded = true, false
	if s.burst() {
		go s.rest() // as in run
		return
	}
	s.link.resting = false
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

// sleep waits until there is something to read, or the line has ended, which it
// notes in awaited and broken, or until a deadline is set.
func (l *link) sleep() {
	l.drowsy.Store(true) // so that the timers let it be
	l.awaited = false
	_ = l.SetReadDeadline(time.Time{})
	if l.stopped.Load() || l.paused.Load() {
		return
	}
	if l.raw.Read(l.receive) == nil {
		l.awaited = true
	}
}

// arrived notes the first n bytes that came in at rest and tells whether gws is to
// read them. The Pong to an empty Ping, which is all that an idle device ever
// sends, needs no reader.
func (l *link) arrived(n int) (wake bool) {
	l.heard.Store(l.clock.now())
	came := l.first[:n]
	if n == len(emptyPong) && [2]byte(came) == [2]byte(emptyPong[:2]) && l.watch(came) == n {
		return false
	}
	l.ahead = came
	return true
}

// emptyPong is one, from a client, with a mask of zeros (RFC 6455 §5.5.3).
var emptyPong = [6]byte{0x80 | opPong, 0x80}
