package client

import (
	"sync"
	"time"

	"github.com/lxzan/gws"

	"mooring/wire"
)

var decoders = sync.Pool{New: func() any { return wire.NewDecoder(wire.Limits{}) }}

// OnOpen belongs to gws.Event.
func (l *link) OnOpen(*gws.Conn) {}

// OnClose keeps why the loop ended; it is its last call.
func (l *link) OnClose(_ *gws.Conn, err error) { l.readErr = err }

// OnPong only shows that the server lives.
func (l *link) OnPong(*gws.Conn, []byte) { l.hear() }

// OnPing has the writer answer with the same payload. The reader never writes:
// a server that does not read must not keep us from reading its acks. Of several
// pings the last one is answered, as RFC 6455 §5.5.3 allows.
func (l *link) OnPing(_ *gws.Conn, payload []byte) {
	l.hear()
	l.pongMu.Lock()
	l.pong, l.hasPong = payload, true // gws allocates it for each ping
	l.pongMu.Unlock()
	l.client.kick()
}

// OnMessage handles one frame; its bytes are gws's again afterwards.
func (l *link) OnMessage(_ *gws.Conn, message *gws.Message) {
	l.hear()
	if message.Opcode == gws.OpcodeBinary {
		if err := l.frame(message.Bytes()); err != nil {
			l.complain(err)
		}
	} else {
		l.part(leaving{code: wire.CloseText, class: wire.ClassRetry, err: errText})
	}
	_ = message.Close()
}

func (l *link) hear() { l.heard.Store(int64(l.now())) }

// frame handles one frame; an error ends the connection.
func (l *link) frame(frame []byte) error {
	kind, err := wire.FrameTypeOf(frame)
	if err != nil {
		return err
	}
	decoder := decoders.Get().(*wire.Decoder)
	defer decoders.Put(decoder)
	switch kind {
	case wire.FrameAck:
		ack, err := decoder.Ack(frame)
		if err != nil {
			return err
		}
		l.acked(ack)
	case wire.FrameWelcome:
		welcome, err := decoder.Welcome(frame)
		if err != nil {
			return err
		}
		l.welcome(welcome)
	case wire.FrameNotice:
		notice, err := decoder.Notice(frame)
		if err != nil {
			return err
		}
		l.notice(notice)
	case wire.FrameCommand:
		command, err := decoder.Command(frame)
		if err != nil {
			return err
		}
		l.command(command)
	case wire.FramePong:
	case wire.FrameHello, wire.FrameLayout, wire.FrameData, wire.FrameResult, wire.FramePing:
		return &wire.FrameError{Close: wire.CloseUnknownType, Field: "type", Err: errNotFromServer}
	default: // ignorable: FrameTypeOf refuses unknown critical ones
	}
	return nil
}

func (l *link) welcome(welcome wire.Welcome) {
	c := l.client
	c.mu.Lock()
	l.welcomed, c.limited = true, true
	c.stats.Session = welcome.Session
	c.setTime(welcome.Time)
	c.setParameters(welcome.Heartbeat, welcome.MaxFrame, max(welcome.Spread, 1)) // PROTOCOL §9.2
	c.window = welcome.Window
	c.mu.Unlock()
	c.event(Event{Kind: EventWelcome, Welcome: welcome})
	c.kick()
}

func (c *Client) setTime(millis int64) {
	c.offset, c.hasTime = time.Until(time.UnixMilli(millis)), true
}

// setParameters takes over what is above 0.
func (c *Client) setParameters(heartbeat, maxFrame, spread int) {
	if heartbeat > 0 {
		c.heartbeat = time.Duration(heartbeat) * time.Second
	}
	if maxFrame > 0 {
		c.maxFrame, c.limited = min(maxFrame, wire.MaxFrameBytes), true
	}
	if spread > 0 {
		c.spread = time.Duration(spread) * time.Second
	}
}

func (l *link) notice(notice wire.Notice) {
	c := l.client
	c.mu.Lock()
	event := Event{}
	switch notice.Kind {
	case wire.NoticeTime:
		c.setTime(notice.Time)
	case wire.NoticeThrottle:
		l.gap = time.Duration(notice.MinGapMillis) * time.Millisecond
		l.gapUntil = l.now() + time.Duration(notice.ForSeconds)*time.Second
	case wire.NoticeGoAway:
		l.goAway = &goAway{
			code:     notice.Code,
			graceful: notice.GraceMillis > 0,
			until:    l.now() + time.Duration(notice.GraceMillis)*time.Millisecond + farewell,
			min:      time.Duration(notice.MinMillis) * time.Millisecond,
			max:      time.Duration(notice.MaxMillis) * time.Millisecond,
		}
		event = Event{Kind: EventGoAway, Code: notice.Code, Text: notice.Text}
	case wire.NoticeParams:
		c.setParameters(notice.Heartbeat, notice.MaxFrame, notice.Spread)
		if notice.Window > 0 {
			c.window = notice.Window
		}
	case wire.NoticeLayoutRejected:
		if int(notice.Layout) < len(c.layouts) {
			// Below 64: it will not be taken later either.
			if notice.Reason < wire.CodeUnknownLayout {
				c.layouts[notice.Layout].rejected = true
			}
			event = Event{
				Kind: EventLayoutRejected, Layout: LayoutID(notice.Layout),
				Reason: notice.Reason, Channel: notice.Channel,
			}
		}
	case wire.NoticeNeedLayout:
		if int(notice.Layout) < len(c.layouts) && !c.layouts[notice.Layout].rejected {
			l.declared &^= 1 << notice.Layout
		}
	default: // a kind of a later version
	}
	c.mu.Unlock()
	if event.Kind != 0 {
		c.event(event)
	}
	c.kick()
}

// part has the writer close the connection. The first reason stays.
func (l *link) part(why leaving) {
	l.client.mu.Lock()
	if l.leave == nil {
		l.leave = &why
	}
	l.client.mu.Unlock()
	l.client.kick()
}
