package ingest

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"

	"mooring/ingest/door"
	"mooring/wire"
)

// session is one connection of one device. Three parties touch it: the read
// goroutine (run), its shard's writer (settle) and the timers (tick); what each
// may touch is said below.
type session struct {
	gateway *Gateway
	device  Device
	remote  string
	link    *link
	shard   *shard
	begun   int64 // handshake's start, by clock: before the credential was checked

	// Of the read goroutine alone.
	opened    bool          // SessionLog knows it, WELCOME is on its way
	inHandler bool          // a message is being handled: a panic is ours
	hasSeq    bool          // nextSeq is set
	framed    atomic.Bool   // the first frame is in; anybody's
	readErr   error         // why gws stopped reading
	decoder   *wire.Decoder // its own, once DATA declares layouts on the fly
	model     string
	layouts   []layoutEntry
	frames    uint64 // DATA frames handed to the shard
	room      int    // bytes that the shard has promised for the frame at hand
	quota     *quota // nil: none
	nextSeq   uint64 // lowest sequence number the next frame may have
	knownNext uint64 // rows below it are likely to be stored: the hint that WELCOME gave; 0: none
	tally     tally  // what was read so far

	// Of the shard, under its lock.
	noteGeneration uint64 // the batch that noteIndex belongs to
	noteIndex      int

	// Of deliver and who calls it, while flushing.
	nextTold *session

	// Of the timers alone, under the hub's lock.
	slot         int   // place in the hub's list
	pinged       int64 // when a Ping was last asked for, by clock; 0: never
	firstSilence int64 // the silence before the first Ping, jittered
	progressAt   int64 // when progress is due, by clock
	reported     int64 // link.heard at the last progress
	// reportedFrames are the frames settled then: rows may be settled in silence.
	reportedFrames uint64

	number    atomic.Int64  // session number; 0 until opened
	blocked   atomic.Bool   // reading waits for us, not for the device
	held      atomic.Bool   // WELCOME waits in the outbox, to go out with the first ACK
	ending    atomic.Bool   // as closing, for who does not hold the lock
	heartbeat atomic.Int64  // nanoseconds
	acked     atomic.Uint64 // DATA frames covered by the last ACK composed
	rowsRead  atomic.Uint64 // rows received so far

	mu         sync.Mutex
	maxReceive int
	outbox     outbox
	reason     CloseReason // while closing
	back       comeback    // given by Stop
	settled    settled
	throttle   Throttling
	flushing   bool // a flusher runs
	closing    bool
	over       bool // the read goroutine is done
	closed     bool // SessionLog.Close was called
	ended      time.Time
	flushed    chan struct{}      // closed once nothing will be written any more; set while closing
	done       chan struct{}      // closed when the session begins to end; nil: nobody waits for that
	cancel     context.CancelFunc // ends what waiting gave; nil: nothing is waited for
}

// tally counts what a session's frames brought; totals.
type tally struct {
	rowsIn, rowsRejected, rowsLost uint64
}

// settled is how far a session got, rows committed or refused for good.
type settled struct {
	frames    uint64
	next      uint64
	hasNext   bool
	tally     tally
	committed uint64
	duplicate uint64
	poisoned  uint64 // refused by the store
	abandoned bool   // the store gave some of it up
}

// leave says farewell and cleans up, after the reading has ended.
func (s *session) leave() {
	defer s.gateway.sessions.Done()
	s.link.park() // Stop waits for readers to rest or end
	s.shut(s.readEnd())
	s.mu.Lock()
	flushed := s.flushed
	s.mu.Unlock()
	<-flushed

	s.mu.Lock()
	reason := s.reason
	s.mu.Unlock()
	linger := s.gateway.cfg.CloseTimeout
	if reason.gone || reason.byPeer {
		linger = 0
	}
	s.link.finish(linger)
	s.gateway.hub.remove(s)
	s.finish(reason)
}

// read is gws's loop, until the connection's end or until it is to rest, under a
// recovery of our own: one frame whose 64-bit length has its top bit set panics
// in gws outside of any recovery of its own.
func (s *session) read(socket *gws.Conn) {
	defer s.recovered()
	socket.ReadLoop()
}

// recovered, deferred, ends the session after a panic.
func (s *session) recovered() {
	fault := recover()
	if fault == nil {
		return
	}
	g := s.gateway
	g.metrics.panics.Inc()
	if !s.inHandler { // the device's doing, and it could fill the log with stacks
		g.cfg.Logger.Warn("a frame header that can't be read", "device", s.device.Name, "session", s.number.Load(),
			"panic", fmt.Sprint(fault))
		s.shut(closeBadHeader)
		return
	}
	g.cfg.Logger.Error("panic in a session", "device", s.device.Name, "session", s.number.Load(),
		"panic", fmt.Sprint(fault), "stack", string(debug.Stack()))
	s.shut(closeInternal)
}

// readEnd says why reading ended when nobody of ours ended it.
func (s *session) readEnd() CloseReason {
	var byPeer *gws.CloseError
	switch {
	case errors.As(s.readErr, &byPeer):
		return closeByPeer(byPeer.Code, s.link.wanted)
	case s.link.wanted == 1009:
		return closeTooLarge
	case s.link.wanted == 1002:
		return closeProtocol
	case s.link.wanted == 1007: // gws looks at texts alone
		return closeText
	case s.link.breach != nil:
		return *s.link.breach
	default:
		return closeLost
	}
}

// shut ends the session for reason; the first reason holds. It never blocks
// and may be called from anywhere.
func (s *session) shut(reason CloseReason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return
	}
	s.end(reason)
	if s.flushing {
		// The flusher may be waiting for a peer that does not read.
		_ = s.link.SetWriteDeadline(time.Now().Add(s.gateway.cfg.CloseTimeout))
	}
	s.kick()
}

// finish records the session's end, now or when its last frame is settled.
func (s *session) finish(reason CloseReason) {
	g := s.gateway
	g.metrics.closes.WithLabelValues(reason.Label).Inc()
	g.cfg.Logger.Debug("session ended", "device", s.device.Name, "session", s.number.Load(),
		"code", int(reason.Code), "reason", reason.Text)
	s.mu.Lock()
	s.over, s.ended = true, time.Now()
	if s.outbox.shrunk {
		s.outbox.shrunk = false
		s.shard.shrunk.Add(-1)
	}
	s.mu.Unlock()
	s.closeIfSettled()
	g.owe(s.device.ID, s.quota)
	s.link.visit.End() // if it brought no frame
	g.leave(door.AddressOf(s.remote))
}

// closeIfSettled reports the session's end once all its frames are settled, so
// that the counts are final. Exactly one caller gets to report.
func (s *session) closeIfSettled() {
	s.mu.Lock()
	report := s.over && !s.closed && s.number.Load() != 0 && s.settled.frames == s.frames
	if report {
		s.closed = true
	}
	end := SessionEnd{
		SessionProgress: s.progress(), Disconnected: s.ended, Code: s.reason.Code, Reason: s.reason.Text,
		Incomplete: s.settled.abandoned,
	}
	if report { // reading is over, so what was read is final
		counts := &end.Counts
		counts.RowsIn, counts.RowsLost = s.tally.rowsIn, s.tally.rowsLost
		counts.RowsWaiting, counts.RowsReturned = 0, s.tally.rowsIn-s.settled.tally.rowsIn
	}
	s.mu.Unlock()
	if report {
		s.gateway.log.Close(end)
	}
}

// progress is the session's state; s.mu is held.
func (s *session) progress() SessionProgress {
	done := &s.settled
	received := max(s.rowsRead.Load(), done.tally.rowsIn)
	return SessionProgress{
		Session:  s.number.Load(),
		LastSeen: s.link.clock.wall(s.link.heard.Load()),
		Next:     done.next,
		HasNext:  done.hasNext,
		Counts: SessionCounts{
			RowsIn:        received,
			RowsCommitted: done.committed,
			RowsDuplicate: done.duplicate,
			RowsRejected:  done.tally.rowsRejected + done.poisoned,
			RowsLost:      done.tally.rowsLost,
			RowsWaiting:   received - done.tally.rowsIn,
		},
		Throttle: s.throttle,
	}
}

// hold marks that reading waits for us; the heartbeat spares such a session,
// because its device's Pongs lie unread.
func (s *session) hold() { s.blocked.Store(true) }

// resume ends hold. The silence starts anew.
func (s *session) resume() {
	now := s.link.clock.now()
	s.link.guard.restart(now)
	s.link.heard.Store(now)
	s.blocked.Store(false)
}

// open records the session and queues WELCOME. It waits for SessionLog.
func (s *session) open(hello wire.Hello) bool {
	g := s.gateway
	s.hold()
	ctx, end := s.waiting(g.cfg.OpenTimeout)
	info, err := g.log.Open(ctx, SessionStart{
		Device:    s.device,
		Remote:    s.remote,
		BootID:    hello.BootID,
		Model:     hello.Model,
		Firmware:  hello.Firmware,
		Connected: s.link.clock.wall(s.begun),
	})
	end()
	s.resume()
	switch {
	case err == nil:
	case errors.Is(err, ErrUnauthenticated): // revoked since the handshake
		s.shut(closeUnauthorized)
		return false
	case errors.Is(err, ErrDisabled):
		s.shut(closeDisabled)
		return false
	default:
		if !s.ending.Load() {
			if skipped, due := g.unrecorded.due(s.link.clock.now()); due {
				g.cfg.Logger.Warn("session not recorded", "device", s.device.Name, "error", err, "others", skipped)
			}
		}
		s.shut(closeOpen)
		return false
	}
	s.opened, s.model = true, hello.Model
	if info.HasNext {
		s.knownNext = info.Next
	}
	beat := g.cfg.Heartbeat
	if hello.Heartbeat > 0 {
		beat = min(max(time.Duration(hello.Heartbeat)*time.Second, MinHeartbeat), MaxHeartbeat)
	}
	s.heartbeat.Store(int64(beat))

	s.welcome(hello.MaxReceive, wire.Welcome{
		Time:      time.Now().UnixMilli(),
		Session:   info.Session,
		Heartbeat: int(beat / time.Second),
		MaxFrame:  g.cfg.MaxFrame,
		Window:    g.cfg.Window,
		Spread:    int(g.cfg.Spread / time.Second),
		Next:      info.Next,
		HasNext:   info.HasNext,
	})
	g.hub.claim(s)
	if g.cfg.OnWelcomed != nil {
		g.cfg.OnWelcomed(s.device)
	}
	return true
}
