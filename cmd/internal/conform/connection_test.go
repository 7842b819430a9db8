package conform

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"time"

	"mooring/cmd/internal/websocket"
	"mooring/wire"
)

// due is an answer to a command and when it is given.
type due struct {
	at     time.Time
	result wire.Result
}

// connection is one of a quirky device.
type connection struct {
	device   *device
	conn     net.Conn
	messages chan message
	encoder  *wire.Encoder
	decoder  *wire.Decoder

	window    int
	flight    []uint64 // ends of frames not acknowledged
	sent      uint64   // rows before it were sent here
	declared  bool
	rejected  bool
	goAway    bool
	leave     time.Time // after a GOAWAY
	gap       time.Duration
	lastSent  time.Time
	results   []due
	commands  int
	lastAck   time.Time
	heard     time.Time
	heartbeat time.Duration
	maxFrame  int
	over      *end
	end       end
}

// write sends a masked frame.
func (c *connection) write(first byte, payload []byte) {
	mask := &[4]byte{1, 2, 3, 4}
	if c.device.is("no mask") {
		mask = nil
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_, _ = c.conn.Write(websocket.Append(nil, first, mask, payload))
}

func (c *connection) send(frame []byte) { c.write(websocket.Fin|websocket.Binary, frame) }

// leaveWith closes with a code and ends the connection.
func (c *connection) leaveWith(code wire.CloseCode) {
	c.write(websocket.Fin|websocket.Close, binary.BigEndian.AppendUint16(nil, uint16(code)))
	c.end.class = wire.ClassRetry
	c.over = &c.end
}

// serve is the connection's loop.
func (c *connection) serve(ctx context.Context) end {
	d := c.device
	if d.is("says nothing at first") {
		pause(ctx, 16*time.Second)
	}
	if !d.is("HELLO behind LAYOUT") {
		c.send(c.encoder.Hello(wire.Hello{BootID: d.boot}))
	}
	if d.is("500 Pings at once") {
		for range 500 {
			c.write(websocket.Fin|websocket.Ping, nil)
		}
	}
	if d.is("2,000 fragments") {
		c.write(websocket.Binary, nil)
		for range 2000 {
			c.write(websocket.Continuation, nil)
		}
		c.write(websocket.Fin|websocket.Continuation, []byte{0x91, 99})
	}
	c.heard, c.lastAck = time.Now(), time.Now()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for c.over == nil {
		messages := c.messages
		if d.is("chokes on more fields") && len(c.flight) < framesBeforeWelcome {
			messages = nil // it first sends what it may without a WELCOME
		}
		select {
		case <-ctx.Done():
			return c.end
		case got := <-messages:
			c.heard = time.Now()
			c.take(got)
		case now := <-ticker.C:
			d.rows = append(d.rows, measured{d.next, float64(d.next), now})
			d.next++
			c.work(now)
		}
	}
	return *c.over
}

// work sends what may be sent, and leaves when it must.
func (c *connection) work(now time.Time) {
	d := c.device
	for len(c.results) > 0 && !now.Before(c.results[0].at) {
		c.send(c.encoder.Result(c.results[0].result))
		c.results = c.results[1:]
	}
	switch {
	case now.Sub(c.heard) > 2*c.heartbeat && !d.is("never takes a link for dead"):
		c.over = &c.end
	case d.is("leaves when acks are late") && len(c.flight) > 0 && now.Sub(c.lastAck) > 3*time.Second:
		c.over = &c.end
	case d.is("sends again when acks are late") && len(c.flight) > 0 && now.Sub(c.lastAck) > 3*time.Second:
		c.lastAck, c.sent, c.flight = now, 0, nil
	case c.goAway && (len(c.flight) == 0 || d.is("leaves before its acks") || now.After(c.leave)):
		c.leaveWith(1000)
	}
	if c.over != nil || c.goAway && !d.is("sends after GOAWAY") || c.rejected && !d.is("sends a refused layout") {
		return
	}
	free := len(c.flight) < c.window || d.is("no window") || d.is("takes window 0 for none") && c.window == 0
	if now.Sub(c.lastSent) < c.gap && !d.is("ignores THROTTLE") || !free {
		return
	}
	c.data(now)
}

// data sends the rows that wait, and their layout before.
func (c *connection) data(now time.Time) {
	d := c.device
	size := min(64, (c.maxFrame-64)/16)
	if d.is("frames of any size") {
		size = 1000
	}
	frame := wire.Data{Seq: 0, Layout: 1}
	for _, row := range d.rows {
		if row.seq < c.sent || len(frame.Rows) == size {
			continue
		}
		if len(frame.Rows) == 0 {
			frame.Seq = row.seq
		}
		at := row.at
		if d.is("a clock of 1970") {
			at = at.AddDate(1970-at.Year(), 0, 0)
		}
		if d.is("a clock of 1944") {
			at = at.AddDate(1944-at.Year(), 0, 0)
		}
		frame.Rows = append(frame.Rows, wire.Row{Time: at.UnixMilli() * 1000, Values: []wire.Value{{Kind: wire.ValueNumber, Number: row.value}}})
	}
	if len(frame.Rows) == 0 {
		return
	}
	never := d.is("no LAYOUT") || d.is("LAYOUT once and for all") && d.failures > 0
	if !c.declared && !never {
		c.declared = true
		c.send(c.encoder.Layout(&wire.Layout{Number: 1, Name: "quirky", Channels: []wire.Channel{{Name: "n"}}}))
		if d.is("HELLO behind LAYOUT") {
			c.send(c.encoder.Hello(wire.Hello{BootID: d.boot}))
		}
	}
	payload, err := c.encoder.Data(&frame)
	if err != nil {
		panic(err)
	}
	if d.is("bytes behind a frame") {
		payload = append(bytes.Clone(payload), 0xc0)
	}
	first := websocket.Fin | websocket.Binary
	if d.is("text messages") {
		first = websocket.Fin | websocket.Text
	}
	c.write(first, payload)
	c.sent = frame.Seq + uint64(len(frame.Rows))
	if len(c.flight) == 0 {
		c.lastAck = now
	}
	c.flight = append(c.flight, c.sent)
	c.lastSent, c.end.sentData = now, true
	if c.end.behind == 0 {
		c.end.behind = c.sent
	}
}

// take handles what the server sent.
func (c *connection) take(got message) {
	d := c.device
	switch got.opcode {
	case websocket.Close:
		c.over = &c.end
		if len(got.payload) >= 2 {
			code := wire.CloseCode(binary.BigEndian.Uint16(got.payload))
			c.write(websocket.Fin|websocket.Close, got.payload[:2])
			c.end.class = code.Class()
			if d.is("knows listed codes alone") && code == 4177 {
				c.end.class = wire.ClassRetry
			}
		}
	case websocket.Ping:
		switch {
		case d.is("no Pong"):
		case d.is("empty Pongs"):
			c.write(websocket.Fin|websocket.Pong, nil)
		default:
			c.write(websocket.Fin|websocket.Pong, got.payload)
		}
	case websocket.Binary:
		c.frame(got.payload)
	case websocket.Text:
		if !d.is("takes no notice of texts") {
			c.leaveWith(wire.CloseText)
		}
	}
}

func (c *connection) frame(frame []byte) {
	d := c.device
	kind, err := wire.FrameTypeOf(frame)
	switch {
	case err != nil && d.is("ignores what is critical"):
		return
	case err != nil:
		c.leaveWith(wire.CloseUnknownType)
		return
	case d.is("chokes on more fields") && bytes.Contains(frame, []byte("later")) && kind != wire.FrameNotice,
		d.is("chokes on frames it does not know") && kind > 31,
		d.is("chokes on wide headers") && frame[0] == 0xdc:
		c.leaveWith(wire.CloseBadFrame)
		return
	}
	switch kind {
	case wire.FrameWelcome:
		welcome, _ := c.decoder.Welcome(frame)
		c.window, c.maxFrame = welcome.Window, welcome.MaxFrame
		c.heartbeat = time.Duration(welcome.Heartbeat) * time.Second
		d.spread = max(time.Duration(welcome.Spread)*time.Second, time.Second)
		if d.is("takes a spread of 0 for none") {
			d.spread = time.Duration(welcome.Spread) * time.Second
		}
	case wire.FrameAck:
		ack, err := c.decoder.Ack(frame)
		if err != nil {
			if !d.is("ignores bad frames") {
				c.leaveWith(wire.CloseBadFrame)
			}
			return
		}
		c.acked(ack)
	case wire.FrameCommand:
		command, _ := c.decoder.Command(frame)
		if c.commands++; d.is("no RESULT") || d.is("answers the first command alone") && c.commands > 1 {
			return
		}
		answer := due{time.Now(), wire.Result{ID: command.ID, Status: wire.ResultUnknown}}
		if d.is("answers commands late") {
			answer.at = answer.at.Add(4 * time.Second)
		}
		c.results = append(c.results, answer)
	case wire.FrameNotice:
		c.notice(frame)
	default:
	}
}

func (c *connection) acked(ack wire.Ack) {
	d := c.device
	c.window, c.lastAck = ack.Window, time.Now()
	for len(c.flight) > 0 && c.flight[0] <= ack.Next {
		c.flight = c.flight[1:]
	}
	c.end.behind = 0
	if len(c.flight) > 0 {
		c.end.behind = c.flight[0]
	}
	keep := min(ack.Next, c.sent)
	if d.is("takes any ACK") {
		keep = ack.Next
	}
	for _, reject := range ack.Rejects {
		if d.is("sends refused rows again") || d.is("takes unknown refusals lightly") && reject.Code > wire.CodeStorage && reject.Code < wire.CodeUnknownLayout {
			keep = min(keep, reject.Seq)
		}
		if d.is("sends at once what QUOTA refused") && reject.Code == wire.CodeQuota {
			for _, row := range d.rows {
				if row.seq >= reject.Seq && row.seq < reject.Seq+reject.N {
					d.rows = append(d.rows, measured{d.next, row.value, row.at})
					d.next++
				}
			}
		}
	}
	for len(d.rows) > 0 && d.rows[0].seq < keep && !d.is("forgets nothing") {
		d.rows = d.rows[1:]
		c.end.progress = true
	}
	c.end.progress = c.end.progress || d.is("forgets nothing")
}

func (c *connection) notice(frame []byte) {
	d := c.device
	notice, _ := c.decoder.Notice(frame)
	switch notice.Kind {
	case wire.NoticeThrottle:
		c.gap = time.Duration(notice.MinGapMillis) * time.Millisecond
	case wire.NoticeGoAway:
		c.goAway = notice.GraceMillis > 0
		c.leave = time.Now().Add(time.Duration(notice.GraceMillis) * time.Millisecond)
		if d.is("the first GOAWAY counts") && c.end.max > 0 {
			return
		}
		c.end.min, c.end.max = time.Duration(notice.MinMillis)*time.Millisecond, time.Duration(notice.MaxMillis)*time.Millisecond
	case wire.NoticeParams:
		if notice.Window > 0 && !d.is("ignores PARAMS") {
			c.window = notice.Window
		}
		if notice.MaxFrame > 0 && !d.is("ignores PARAMS") {
			c.maxFrame = notice.MaxFrame
		}
	case wire.NoticeLayoutRejected:
		c.rejected = true
	case wire.NoticeNeedLayout:
		if !d.is("ignores NEED_LAYOUT") {
			c.declared = false
		}
	case wire.NoticeTime:
	case 99:
		if d.is("chokes on a notice") {
			c.leaveWith(wire.CloseBadFrame)
		}
	}
}
