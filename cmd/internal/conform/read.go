package conform

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"mooring/cmd/internal/websocket"
	"mooring/wire"
)

// firstFrameLimit is PROTOCOL §2.7's, and what a busy machine may add.
const firstFrameLimit = 10*time.Second + slack

// read reads until the connection is over, and judges every message by the rules
// that hold at all times.
func (l *line) read() {
	var partial message
	for {
		got, err := l.socket.read(&partial)
		if err != nil {
			l.finish(err)
			return
		}
		switch got.opcode {
		case websocket.Close:
			l.closedBy(got.payload)
			return
		case websocket.Ping:
			l.count()
			if !l.stage.silent() {
				l.socket.write(websocket.Pong, got.payload)
			}
		case websocket.Pong:
			l.count()
			l.stage.mu.Lock()
			l.pongs = append(l.pongs, string(got.payload))
			l.stage.touch()
			l.stage.mu.Unlock()
		case websocket.Text:
			l.stage.broken(ruleWebSocket, "a text message, which a server closes with 4204")
		default:
			l.message(got)
		}
	}
}

// finish notes the end of a connection that had no close frame.
func (l *line) finish(err error) {
	s := l.stage
	switch {
	case errors.Is(err, errUnmasked), errors.Is(err, errReserved), errors.Is(err, errFragments):
		s.broken(ruleWebSocket, "%v", err)
	case errors.Is(err, websocket.ErrTooLong):
		s.broken(ruleMaxFrame, "%v", err)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		err = nil
	}
	l.end(err)
	s.mu.Lock()
	l.over = true
	if l.code == 0 {
		l.code = 1006
	}
	s.touch()
	s.mu.Unlock()
}

// closedBy notes the program's close frame and answers it.
func (l *line) closedBy(payload []byte) {
	code := wire.CloseCode(1005)
	if len(payload) >= 2 {
		code = wire.CloseCode(binary.BigEndian.Uint16(payload))
	}
	l.stage.mu.Lock()
	l.code = code
	l.stage.mu.Unlock()
	if l.alive() {
		l.socket.write(websocket.Close, payload[:min(2, len(payload))])
	}
	l.finish(nil)
}

// count counts a frame other than DATA (PROTOCOL §8.5).
func (l *line) count() {
	s := l.stage
	s.mu.Lock()
	l.control++
	count, age := l.control, time.Since(l.born)
	s.mu.Unlock()
	s.judge(ruleControlRate, count <= 400+20*int(age/time.Second+1), "%d frames other than DATA within %s", count, millis(age))
}

func (l *line) message(got message) {
	s := l.stage
	s.kept(ruleWebSocket)
	s.judge(ruleFragments, got.fragments <= maxFragments, "at most %d", maxFragments)
	kind, err := wire.FrameTypeOf(got.payload)
	if err != nil {
		s.broken(ruleWellFormed, "%v", err)
		return
	}
	now := time.Now()
	s.mu.Lock()
	first := l.frames == 0
	l.frames++
	tooLarge := l.maxFrame > 0 && len(got.payload) > l.maxFrame && now.Sub(l.frameFrom) > crossing
	maxFrame := l.maxFrame
	s.mu.Unlock()
	if first {
		s.measure(ruleFirstFrame, now.Sub(l.born) < firstFrameLimit, "%s after the upgrade", millis(now.Sub(l.born)))
	}
	if tooLarge {
		s.broken(ruleMaxFrame, "a frame of type %d with %d bytes, while max_frame is %d", kind, len(got.payload), maxFrame)
	}
	if kind != wire.FrameData {
		l.count()
	}
	err = l.frame(kind, got.payload, first, now)
	if err != nil {
		s.broken(ruleWellFormed, "%v", err)
	} else {
		s.kept(ruleWellFormed)
	}
}

// frame takes a frame to the books; an error means that it is not well formed.
func (l *line) frame(kind wire.FrameType, frame []byte, first bool, now time.Time) error {
	s := l.stage
	switch kind {
	case wire.FrameHello:
		hello, err := l.decoder.Hello(frame)
		if err != nil {
			return fmt.Errorf("HELLO: %w", err)
		}
		s.judge(ruleHelloFirst, first, "HELLO came behind another frame")
		s.booted(hello.BootID)
		s.mu.Lock()
		l.hello = &hello
		s.touch()
		s.mu.Unlock()
	case wire.FrameLayout:
		layout, err := l.decoder.Layout(frame)
		if err != nil {
			return fmt.Errorf("LAYOUT: %w", err)
		}
		s.mu.Lock()
		l.layouts[layout.Number] = layout
		l.declared = append(l.declared, declaration{now, layout.Number})
		s.touch()
		s.mu.Unlock()
	case wire.FrameResult:
		result, err := l.decoder.Result(frame)
		if err != nil {
			return fmt.Errorf("RESULT: %w", err)
		}
		s.mu.Lock()
		l.results = append(l.results, answered{result, now})
		s.touch()
		s.mu.Unlock()
	case wire.FramePing:
		ping, err := l.decoder.Ping(frame)
		if err != nil {
			return fmt.Errorf("PING: %w", err)
		}
		if l.alive() && !s.silent() {
			l.send(wire.NewEncoder().Pong(wire.Pong{Echo: ping.Echo, Time: now.UnixMilli()}))
		}
	case wire.FrameData:
		if first {
			s.keptAs(ruleHelloFirst, "no HELLO, which is optional")
		}
		return l.dataFrame(frame, now)
	default:
		if kind < 32 {
			return fmt.Errorf("a frame of type %d, which devices do not send", kind)
		}
	}
	return nil
}

// booted judges boot_id: one a process, different ones of different processes.
func (s *stage) booted(boot uint32) {
	if boot == 0 {
		return
	}
	s.mu.Lock()
	changed, first := s.hasBoot && s.boot != boot, !s.hasBoot
	s.boot, s.hasBoot = boot, true
	s.mu.Unlock()
	if changed {
		s.broken(ruleBootID, "boot_id changed at a reconnect")
	}
	if first {
		s.boots.add(boot)
	}
}

// millis writes a duration for people.
func millis(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", d.Seconds()), ".0") + " s"
}
