package conform

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"time"

	"mooring/wire"
)

// How long scenarios wait.
const (
	// startPatience is for a program that starts: a browser on a busy machine.
	startPatience = 40 * time.Second
	// patience is for a program to send its next rows.
	patience = 20 * time.Second
	// crossing is how long what a program sends may still follow what was true
	// before: it crosses the server's frame on its way, and machines are busy.
	crossing = 1500 * time.Millisecond
	// spread is what WELCOME says, in seconds: as short as it can be, so that
	// waits are short.
	spread = 1
	// slack is for a program's own time to come back, on top of its wait.
	slack = 4 * time.Second
)

// stage is where one scenario plays: a server for one program.
type stage struct {
	name     string
	findings *findings
	boots    *boots
	token    string
	index    int // of the stages of a scenario
	listener net.Listener
	shown    certificate
	secure   *tls.Config // that shows it; nil: no TLS
	program  Program
	ctx      context.Context //nolint:containedctx // a stage lives as long as its scenario's context
	workers  sync.WaitGroup
	waits    []float64 // of playFailures, in parts of the longest allowed

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced whenever something below changes
	refusals []refusal
	attempts []time.Time // handshakes that were asked for
	hungUp   error       // how the last handshake of TLS failed
	lines    []*line     // those that were upgraded
	taken    int         // of lines, by accept
	rows     map[uint64]string
	cameAt   map[uint64]time.Time // the rows, last
	boot     uint32
	hasBoot  bool
	untimed  bool   // rows came without times of their own
	settled  uint64 // rows before it were acknowledged, and the program surely knows
	hopeless bool   // the handshake itself was wrong: it will be the next time
	mute     bool   // answer no Ping, no PING
	dead     bool   // the program has ended
	closed   bool
}

// refusal is how a handshake is answered; status 0: with the upgrade.
type refusal struct {
	status int
	header string // further lines
}

// newStage listens.
func newStage(ctx context.Context, name string, listen func(context.Context) (net.Listener, error), found *findings, seen *boots) (*stage, error) {
	listener, err := listen(ctx)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	secret := make([]byte, 16)
	_, _ = rand.Read(secret) // never fails
	return &stage{
		name: name, findings: found, boots: seen, listener: listener, ctx: ctx,
		token:   "conform-" + hex.EncodeToString(secret),
		changed: make(chan struct{}), rows: map[uint64]string{}, cameAt: map[uint64]time.Time{},
	}, nil
}

// open starts the program and serves it.
func (s *stage) open(start Start, trust *authorities) error {
	at := Target{URL: "ws://" + s.listener.Addr().String() + wire.StreamPath, Token: s.token}
	if s.shown != noTLS {
		var err error
		if s.secure, err = trust.show(s.shown); err != nil {
			return err
		}
		at.URL, at.Authority = "wss"+strings.TrimPrefix(at.URL, "ws"), trust.file
	}
	s.workers.Go(s.serve)
	program, err := start(s.ctx, at)
	if err != nil {
		return err
	}
	s.program = program
	s.workers.Go(func() { // ends with close at the latest
		<-program.Ended()
		s.mu.Lock()
		s.dead = true
		s.touch()
		s.mu.Unlock()
	})
	return nil
}

// close ends the program and every connection, and waits for all goroutines.
func (s *stage) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	if s.program != nil {
		s.program.Stop()
	}
	_ = s.listener.Close()
	s.mu.Lock()
	for _, l := range s.lines {
		_ = l.socket.conn.Close()
	}
	s.mu.Unlock()
	s.workers.Wait()
}

// programEnded says how the program ended, if it did so by itself.
func (s *stage) programEnded() string {
	if s.program == nil {
		return ""
	}
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	select {
	case <-s.program.Ended():
		if !closed {
			return s.program.Why()
		}
	default:
	}
	return ""
}

// touch tells who waits that something changed. mu is held.
func (s *stage) touch() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// until waits until what holds, at most so long and while the program runs; what is
// called with mu held.
func (s *stage) until(limit time.Duration, what func() bool) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		s.mu.Lock()
		holds, changed, dead := what(), s.changed, s.dead
		s.mu.Unlock()
		if holds || dead {
			return holds
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		case <-s.ctx.Done():
			return false
		}
	}
}

// pass lets time go by.
func (s *stage) pass(span time.Duration) {
	s.until(span, func() bool { return false })
}

// silence ends answers to what a program asks to see whether the line lives.
func (s *stage) silence() {
	s.mu.Lock()
	s.mute = true
	s.mu.Unlock()
}

func (s *stage) silent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mute
}

// accept waits for the program's next connection; nil: none came.
func (s *stage) accept(limit time.Duration) *line {
	var next *line
	s.until(limit, func() bool {
		if s.taken < len(s.lines) {
			next = s.lines[s.taken]
			s.taken++
		}
		return next != nil || s.hopeless
	})
	return next
}

// attemptsSince counts the handshakes asked for since then.
func (s *stage) attemptsSince(then time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	count := 0
	for _, at := range s.attempts {
		if at.After(then) {
			count++
		}
	}
	return count
}

// serve accepts until the listener is closed.
func (s *stage) serve() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.workers.Go(func() { s.greet(conn) })
	}
}

// greet answers a handshake and reads what comes then.
func (s *stage) greet(conn net.Conn) {
	defer conn.Close()
	release := context.AfterFunc(s.ctx, func() { _ = conn.Close() })
	defer release()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if s.secure != nil {
		secured := tls.Server(conn, s.secure)
		if err := secured.HandshakeContext(s.ctx); err != nil {
			s.mu.Lock()
			s.hungUp = err
			s.touch()
			s.mu.Unlock()
			return
		}
		conn = secured
	}
	in := bufio.NewReader(conn)
	answer, upgraded := s.handshake(in)
	if answer == "" {
		return
	}
	every := wire.Limits{Oldest: math.MinInt64} // what is too old is judged, not left out
	l := &line{stage: s, born: time.Now(), socket: &socket{conn: conn, in: in}, decoder: wire.NewDecoder(every), layouts: map[uint32]wire.Layout{}}
	l.socket.mu.Lock() // nobody writes before the answer
	s.mu.Lock()
	if s.closed {
		upgraded = false
	}
	if upgraded {
		s.lines = append(s.lines, l)
		l.number = len(s.lines)
		s.touch()
	}
	s.mu.Unlock()
	_ = conn.SetWriteDeadline(time.Now().Add(writeLimit))
	_, err := conn.Write([]byte(answer))
	l.socket.mu.Unlock()
	if err != nil || !upgraded {
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	l.read()
}
