package ingest

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"mooring/ingest/door"
)

// link is a raw connection as gws sees it.
//
// gws reads through it and decides nothing else: what gws writes of its own
// accord, which is close frames with codes of its own and texts that can hold
// addresses, is swallowed and remembered; its Close only ends the reading. The
// session says farewell itself, see flush.go.
type link struct {
	net.Conn
	session *session // set before the reading begins
	clock   clock
	visit   *door.Visit // until the first frame; nil: not counted

	ahead    []byte // what net/http had read beyond the handshake, or what came in at rest
	watched  []byte // the same, seen by guard; see burst.go
	upgraded bool   // the handshake is answered; written before the reading begins

	raw syscall.RawConn // the socket to sleep on, see rest.go; nil: there is none

	// Of the read goroutine alone.
	reader  *bufio.Reader // gws's; nil at rest
	resting bool          // gws's loop ends, or has ended, for a rest
	woken   bool          // no message has come in since the last rest
	heeded  bool          // something has
	awaited bool          // something came in at rest that gws is to read
	broken  bool          // or the line has ended
	behind  int           // bytes that came in with the message at hand, behind it; 0: none, or not known
	wanted  uint16        // the code gws wanted to close with
	first   [8]byte       // what came in at rest
	wokenAt int64         // when that last was for gws to read, by clock; 0: never
	breach  *CloseReason  // why guard ended the reading; nil: it did not
	guard   guard

	stopped atomic.Bool  // nothing is read any more
	paused  atomic.Bool  // reading waits for the end
	drowsy  atomic.Bool  // at rest, or asked to; see rest.go
	heard   atomic.Int64 // when bytes last came in, by clock
	sent    atomic.Int64 // when bytes last went out, by clock

	mu     sync.Mutex
	parked bool          // reading waits for the end, or has ended
	told   chan struct{} // closed then; nil: nobody has asked
}

// clock counts nanoseconds since its start, without jumps; never 0, which stands
// for no time.
type clock struct{ start time.Time }

func newClock() clock { return clock{start: time.Now().Add(-time.Second)} }

func (c clock) now() int64 { return int64(time.Since(c.start)) }

// wall is the time of day that at was, by today's reckoning: the system's clock
// may have been set since the start.
func (c clock) wall(at int64) time.Time { return time.Now().Add(time.Duration(at - c.now())) }

func newLink(conn net.Conn, ahead []byte, clock clock) *link {
	l := &link{Conn: conn, clock: clock, ahead: ahead}
	now := clock.now()
	l.heard.Store(now)
	l.sent.Store(now)
	if socket, ok := conn.(syscall.Conn); ok && canSleep {
		l.raw, _ = socket.SyscallConn()
	}
	return l
}

// Read counts any byte as a sign of life, so that a long frame over a slow
// line does not look like silence.
func (l *link) Read(p []byte) (int, error) {
	for {
		if l.over() {
			return 0, io.EOF
		}
		if len(l.watched) > 0 {
			n := copy(p, l.watched)
			if l.watched = l.watched[n:]; len(l.watched) == 0 {
				l.watched = nil
			}
			return n, nil
		}
		if l.breach != nil {
			return 0, io.EOF
		}
		if len(l.ahead) > 0 {
			n := copy(p, l.ahead)
			if l.ahead = l.ahead[n:]; len(l.ahead) == 0 {
				l.ahead = nil
			}
			if n = l.watch(p[:n]); n == 0 {
				continue
			}
			l.heeded = true
			return n, nil
		}
		if l.woken && l.heeded && l.guard.idle() { // back to rest at once: it was a Pong
			l.resting = true
			return 0, errRest
		}
		between := l.guard.idle() // two messages; gws holds nothing then
		n, err := l.Conn.Read(p)
		switch {
		case l.stopped.Load():
			return 0, io.EOF
		case n > 0:
			l.heard.Store(l.clock.now())
			if n = l.watch(p[:n]); n == 0 {
				continue
			}
			l.heeded = true
			if between {
				if n -= l.swift(p[:n]); n == 0 {
					continue
				}
			}
			return n, nil
		case err == nil || l.paused.Load():
		case l.raw != nil && errors.Is(err, os.ErrDeadlineExceeded): // nod's
			if l.guard.idle() {
				l.resting = true
				return 0, errRest
			}
			l.stir() // in the middle of a message
		default:
			return 0, err
		}
	}
}

// over tells whether reading has ended. If it was paused, it waits for that.
func (l *link) over() bool {
	if l.stopped.Load() {
		return true
	}
	if l.paused.Load() {
		l.park()
		<-l.session.lifetime().Done()
		return true
	}
	return false
}

// Write passes the handshake's answer on and swallows the rest.
func (l *link) Write(p []byte) (int, error) {
	if !l.upgraded {
		return l.Conn.Write(p)
	}
	if len(p) >= 4 && p[0] == 0x80|opClose && !l.resting {
		l.wanted = uint16(p[2])<<8 | uint16(p[3])
	}
	return len(p), nil
}

// Close ends the reading; before the upgrade it closes the connection.
func (l *link) Close() error {
	if !l.upgraded {
		return l.Conn.Close()
	}
	if !l.resting {
		l.stopped.Store(true)
	}
	return nil
}

// stop makes Read answer io.EOF from now on, also one that waits.
func (l *link) stop() {
	l.stopped.Store(true)
	_ = l.SetReadDeadline(time.Unix(1, 0))
}

// SetDeadline does nothing once the handshake is answered: deadlines are the
// session's then, and gws would move them when it takes up reading again.
func (l *link) SetDeadline(at time.Time) error {
	if l.upgraded {
		return nil
	}
	return l.Conn.SetDeadline(at)
}

// pause makes Read wait for the session's end, also one that waits for bytes.
// The channel is closed once it does, or once reading has ended.
func (l *link) pause() <-chan struct{} {
	l.mu.Lock()
	if l.told == nil {
		l.told = make(chan struct{})
		if l.parked {
			close(l.told)
		}
	}
	told := l.told
	l.mu.Unlock()
	l.paused.Store(true)
	_ = l.SetReadDeadline(time.Unix(1, 0))
	return told
}

// park answers pause.
func (l *link) park() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.parked {
		return
	}
	l.parked = true
	if l.told != nil {
		close(l.told)
	}
}

// send writes what the session has to say.
func (l *link) send(p []byte) error {
	l.sent.Store(l.clock.now())
	_, err := l.Conn.Write(p)
	return err
}

// sendNow writes as much of a letter as the socket takes, without waiting. An error
// will show again when the rest is sent.
func (l *link) sendNow(letter *letter) (sent int) {
	l.sent.Store(l.clock.now())
	letter.sent = 0
	if errors.Is(l.raw.Write(letter.post), os.ErrDeadlineExceeded) {
		// The last flusher's, long past. It would keep every later letter from
		// being written without a flusher of its own.
		_ = l.SetWriteDeadline(time.Time{})
		_ = l.raw.Write(letter.post)
	}
	return letter.sent
}

// finish closes the connection after the close frame was written. With linger
// it waits up to that long for the other side to close first: closing while
// bytes are unread makes the kernel send a reset, which can overtake the close
// frame.
func (l *link) finish(linger time.Duration) {
	if half, ok := l.Conn.(interface{ CloseWrite() error }); ok && linger > 0 {
		_ = half.CloseWrite()
	}
	if linger > 0 {
		_ = l.SetReadDeadline(time.Now().Add(linger))
		var unread [512]byte
		for {
			if _, err := l.Conn.Read(unread[:]); err != nil {
				break
			}
		}
	}
	_ = l.Conn.Close()
}

// abort closes the connection at once and frees whoever reads or writes. What
// the kernel still holds is thrown away: a peer that does not read would make
// it keep that for minutes.
func (l *link) abort() {
	conn := door.Innermost(l.Conn) // tls.Conn.Close writes, and so can wait
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
