package conform

import (
	"encoding/binary"
	"net"
	"time"

	"mooring/cmd/internal/websocket"
	"mooring/wire"
)

// line is one upgraded connection of the program.
type line struct {
	stage  *stage
	number int // from 1
	born   time.Time
	socket *socket

	decoder *wire.Decoder // the reader's

	// Guarded by stage.mu.
	hello     *wire.Hello
	frames    int // of all types
	control   int // frames other than DATA, Pings and Pongs
	layouts   map[uint32]wire.Layout
	declared  []declaration
	data      []dataFrame
	results   []answered
	pongs     []string
	acked     uint64
	auto      bool // acknowledge every frame as it comes
	welcomed  time.Time
	limits    []limit // of the window, as they were announced
	maxFrame  int
	frameFrom time.Time // since when maxFrame holds
	over      bool
	ended     time.Time // by whom ever, first
	code      wire.CloseCode
	err       error
}

// answered is a RESULT and when it came.
type answered struct {
	wire.Result

	at time.Time
}

// limit is a window and when it was announced.
type limit struct {
	at     time.Time
	window int
}

// declaration is a LAYOUT and when it came.
type declaration struct {
	at     time.Time
	number uint32
}

// dataFrame is a DATA frame that came.
type dataFrame struct {
	at        time.Time
	seq, next uint64
	layout    uint32
	named     bool // by channel names
	size      int
	again     bool // its first row came before, the same
}

func (l *line) send(frame []byte) { l.socket.write(websocket.Binary, frame) }

// welcome sends WELCOME with the scenario's own values, changed by change.
func (l *line) welcome(change func(*wire.Welcome)) {
	welcome := l.welcomeValues(change)
	l.send(wire.NewEncoder().Welcome(welcome))
}

// welcomeValues gives the values of a WELCOME that is about to be sent.
func (l *line) welcomeValues(change func(*wire.Welcome)) wire.Welcome {
	welcome := wire.Welcome{
		Time: time.Now().UnixMilli(), Session: int64(l.number), Heartbeat: 30,
		MaxFrame: 16 << 10, Window: 16, Spread: spread,
	}
	if change != nil {
		change(&welcome)
	}
	s := l.stage
	s.mu.Lock()
	defer s.mu.Unlock()
	l.welcomed = time.Now()
	l.maxFrame, l.frameFrom = welcome.MaxFrame, l.welcomed
	l.announce(welcome.Window)
	return welcome
}

// announce notes a window. mu is held.
func (l *line) announce(window int) {
	if n := len(l.limits); n == 0 || l.limits[n-1].window != window {
		l.limits = append(l.limits, limit{time.Now(), window})
	}
}

// ack acknowledges the rows before next, with refusals.
func (l *line) ack(next uint64, window int, rejects ...wire.Reject) {
	l.stage.mu.Lock()
	l.acked = max(l.acked, next)
	l.announce(window)
	l.stage.mu.Unlock()
	ack := wire.Ack{Next: next, Window: window, Rejects: rejects}
	for _, reject := range rejects {
		ack.Rejected += reject.N
	}
	l.send(wire.NewEncoder().Ack(&ack))
}

// ackAll acknowledges everything that has come so far and says how far that is.
func (l *line) ackAll(window int) uint64 {
	next := l.next()
	l.ack(next, window)
	return next
}

// acknowledge has every frame acknowledged from now on, as it comes.
func (l *line) acknowledge() {
	l.stage.mu.Lock()
	l.auto = true
	l.stage.mu.Unlock()
	l.ackAll(16)
}

// hold ends acknowledge.
func (l *line) hold() {
	l.stage.mu.Lock()
	l.auto = false
	l.stage.mu.Unlock()
}

func (l *line) notice(notice wire.Notice) { l.send(wire.NewEncoder().Notice(notice)) }

// goAway announces a close and closes, as a server does that has found a fault.
func (l *line) goAway(code wire.CloseCode) {
	l.notice(wire.Notice{Kind: wire.NoticeGoAway, Code: code})
	l.close(code)
}

// close closes with this code and waits for the program to have closed too.
func (l *line) close(code wire.CloseCode) {
	l.end(nil)
	l.socket.write(websocket.Close, binary.BigEndian.AppendUint16(nil, uint16(code)))
	l.stage.until(time.Second, func() bool { return l.over })
	_ = l.socket.conn.Close()
	l.stage.until(time.Second, func() bool { return l.over })
}

// drop breaks the connection without a word.
func (l *line) drop() {
	l.end(nil)
	if tcp, ok := l.socket.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a reset
	}
	_ = l.socket.conn.Close()
	l.stage.until(time.Second, func() bool { return l.over })
}

// end notes when the connection ended, the first time.
func (l *line) end(err error) {
	s := l.stage
	s.mu.Lock()
	if l.ended.IsZero() {
		l.ended, l.err = time.Now(), err
	}
	s.touch()
	s.mu.Unlock()
}

// next is the number behind the last row that came.
func (l *line) next() uint64 {
	l.stage.mu.Lock()
	defer l.stage.mu.Unlock()
	return l.nextLocked()
}

func (l *line) nextLocked() uint64 {
	if n := len(l.data); n > 0 {
		return l.data[n-1].next
	}
	return l.acked
}

// sent is what DATA came so far.
func (l *line) sent() []dataFrame {
	l.stage.mu.Lock()
	defer l.stage.mu.Unlock()
	return append([]dataFrame(nil), l.data...)
}

// await waits for so many DATA frames in all.
func (l *line) await(frames int, limit time.Duration) bool {
	l.stage.until(limit, func() bool { return len(l.data) >= frames || l.over })
	return len(l.sent()) >= frames
}

// alive tells whether neither side has ended it.
func (l *line) alive() bool {
	l.stage.mu.Lock()
	defer l.stage.mu.Unlock()
	return l.ended.IsZero()
}

// endedAt is when it ended, by whom ever.
func (l *line) endedAt() time.Time {
	l.stage.mu.Lock()
	defer l.stage.mu.Unlock()
	return l.ended
}

// closeCode is the program's, 1006 for none.
func (l *line) closeCode() wire.CloseCode {
	l.stage.mu.Lock()
	defer l.stage.mu.Unlock()
	return l.code
}

// inFlight counts the frames that are not acknowledged. mu is held.
func (l *line) inFlight() int {
	count := 0
	for i := len(l.data) - 1; i >= 0 && l.data[i].next > l.acked; i-- {
		count++
	}
	return count
}
