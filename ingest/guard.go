package ingest

import (
	"sync/atomic"
	"time"
)

// guard reads the headers of the WebSocket frames that come in, ahead of gws, and
// ends the reading before what gws would bear for ever: a message in endlessly
// many fragments, which may be empty and so never reach max_frame; floods of
// Pings and Pongs, each of which costs an answer or a wake-up; and a message that
// trickles in (which the timers end). All else that is wrong with a frame is left
// to gws, which closes with 1002 or 1009.
//
// It keeps no bytes. Of the read goroutine alone, but for began.
type guard struct {
	// began is when the message or frame that is under way began, by clock;
	// 0: none is. For the timers.
	began atomic.Int64

	owed      int64  // when the control frames so far are paid off, by clock
	left      uint64 // bytes of payload still to come, or the length as far as read
	fragments int32  // of the message under way, this one included
	part      part   // of the frame, that comes next
	need      uint8  // bytes of that part still to come
	first     byte   // of the frame: FIN, reserved bits and opcode
	masked    bool
}

// part is a part of a WebSocket frame (RFC 6455 §5.2).
type part uint8

const (
	partFirst   part = iota // FIN, reserved bits, opcode
	partSecond              // mask bit, length or what stands for a longer one
	partLength              // 2 or 8 bytes
	partMask                // 4 bytes
	partPayload             // left bytes
)

// controlBurst is how long a device may have been silent to save up frames other
// than DATA: Config.ControlRate for so many seconds may come at once.
const controlBurst = 20 * time.Second

// scan follows the frames in p, which came in at now. It gives the number of
// bytes that may be handed on; if that is not all of them, the reason for which
// the session ends before the next one.
func (g *guard) scan(p []byte, now int64, cfg *Config) (int, *CloseReason) {
	ended := false // a message or frame that began in an earlier call
	for i := 0; i < len(p); {
		if g.part == partPayload {
			n := min(g.left, uint64(len(p)-i))
			i += int(n)
			g.left -= n
		} else if i++; !g.header(p[i-1]) {
			continue
		} else if reason := g.judge(now, cfg); reason != nil {
			return i - 1, reason
		}
		if g.left == 0 {
			g.part = partFirst
			if g.first&0x88 == 0x80 { // FIN, and no control frame
				g.fragments = 0
			}
			ended = ended || g.fragments == 0
		}
	}
	began := g.began.Load()
	switch underWay := g.part != partFirst || g.fragments > 0; {
	case underWay && (began == 0 || ended):
		g.began.Store(now)
	case !underWay && began != 0:
		g.began.Store(0)
	}
	return len(p), nil
}

// idle tells whether no message or frame is under way. By the time that gws asks
// for more it has taken everything before, so nothing of one is with gws either.
func (g *guard) idle() bool { return g.began.Load() == 0 }

// header takes the next byte of a frame's header and tells whether it was the
// last one.
func (g *guard) header(b byte) bool {
	switch g.part {
	case partFirst:
		g.first, g.part = b, partSecond
		return false
	case partSecond:
		g.masked, g.left = b&0x80 != 0, uint64(b&0x7F)
		switch g.left {
		case 126:
			g.part, g.need, g.left = partLength, 2, 0
			return false
		case 127:
			g.part, g.need, g.left = partLength, 8, 0
			return false
		}
	case partLength:
		g.left = g.left<<8 | uint64(b)
		if g.need--; g.need > 0 {
			return false
		}
	case partMask:
		if g.need--; g.need > 0 {
			return false
		}
		g.part = partPayload
		return true
	case partPayload: // has no header
	}
	if g.masked {
		g.part, g.need = partMask, 4
		return false
	}
	g.part = partPayload
	return true
}

// judge looks at a frame whose header is complete; nil: it may pass.
func (g *guard) judge(now int64, cfg *Config) *CloseReason {
	if g.first&0x08 != 0 {
		if !g.spend(now, cfg) {
			return &closeFlood
		}
		return nil
	}
	if g.fragments++; int(g.fragments) > cfg.MaxFragments {
		return &closeFragments
	}
	return nil
}

// spend counts a frame other than DATA; false: there were too many (PROTOCOL
// §8.5).
func (g *guard) spend(now int64, cfg *Config) bool {
	owed := max(g.owed, now) + int64(time.Second)/int64(cfg.ControlRate)
	if owed-now > int64(controlBurst) {
		return false
	}
	g.owed = owed
	return true
}

// restart begins the time of the message under way anew: it was we who did not
// read.
func (g *guard) restart(now int64) {
	if g.began.Load() != 0 {
		g.began.Store(now)
	}
}

// watch hands on what came in as far as guard lets it.
func (l *link) watch(p []byte) int {
	n, reason := l.guard.scan(p, l.clock.now(), &l.session.gateway.cfg)
	if reason != nil {
		l.breach = reason
	}
	return n
}
