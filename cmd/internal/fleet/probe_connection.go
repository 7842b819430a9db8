package fleet

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"mooring/wire"
)

// probeLine is a connection of the probe.
type probeLine struct {
	probe   *probe
	socket  *rawSocket
	header  http.Header // of the answer to the handshake
	maxRx   int
	welcome wire.Welcome
	sent    uint64 // rows before it were sent
	acked   uint64
	acks    []wire.Ack
	notices []wire.Notice
	pongs   []wire.Pong
	greeted bool
	goAway  wire.CloseCode
	code    wire.CloseCode // of the end; 0: it lives
	fault   error
}

var errNoWelcome = errors.New("no WELCOME came")

// dial makes the handshake, changed by change; a line without a socket was refused.
func (p *probe) dial(ctx context.Context, change func(*handshake)) (*probeLine, int, error) {
	ask := newHandshake(p.device.token.Token)
	if change != nil {
		change(&ask)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	socket, answered, err := rawDial(ctx, p.in.run.cfg.URL, p.in.run.cfg.TLS, ask)
	if err != nil {
		return nil, 0, err
	}
	status := answered.status
	if socket == nil {
		return nil, status, nil
	}
	return &probeLine{probe: p, socket: socket, header: answered.header, maxRx: 1024, sent: p.seq, acked: 0}, status, nil
}

// open connects, says HELLO if there is one, and waits for WELCOME.
func (p *probe) open(ctx context.Context, hello *wire.Hello) (*probeLine, error) {
	line, status, err := p.dial(ctx, nil)
	for range probeTries {
		if status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests {
			break
		}
		sleep(ctx, time.Second)
		line, status, err = p.dial(ctx, nil)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("connect to %s: %w", p.in.run.cfg.URL, err)
	case line == nil:
		return nil, fmt.Errorf("connect to %s: HTTP %d", p.in.run.cfg.URL, status)
	}
	if hello.MaxReceive > 0 {
		line.maxRx = min(hello.MaxReceive, 1024)
	}
	line.send(p.in.encoder.Hello(*hello))
	if !line.until(patience, func() bool { return line.greeted }) && line.fault == nil {
		line.fault = errNoWelcome
	}
	return line, nil
}

// with opens a connection, declares a layout of one number and one text under 1,
// does something there and closes.
func (p *probe) with(ctx context.Context, hello wire.Hello, do func(l *probeLine) verdict) verdict {
	if hello.BootID == 0 {
		hello.BootID = p.in.random.Uint32() | 1
	}
	line, err := p.open(ctx, &hello)
	if err != nil {
		return notShown("%v", err)
	}
	defer line.close()
	if line.fault != nil {
		return notShown("%v", line.fault)
	}
	line.send(p.in.encoder.Layout(&wire.Layout{Number: 1, Name: probeLayout, Channels: probeChannels()}))
	return do(line)
}

func probeChannels() []wire.Channel {
	return []wire.Channel{{Name: "number", Unit: "1"}, {Name: "text", Kind: wire.KindText}}
}

func (l *probeLine) close() { l.socket.close() }

// send writes a message. What can't be written shows when reading.
func (l *probeLine) send(frame []byte) { _ = l.socket.send(frame) }

// rows sends a DATA frame of n good rows behind those sent.
func (l *probeLine) rows(n int) {
	values := make([]wire.Value, n)
	for i := range values {
		values[i] = wire.Value{Kind: wire.ValueNumber, Number: float64(i)}
	}
	l.values(values...)
}

// values sends a DATA frame with a row for each of these, and gives the first one's
// number.
func (l *probeLine) values(values ...wire.Value) (seq uint64) {
	seq = l.sent
	l.again(seq, values...)
	l.sent = seq + uint64(len(values))
	l.probe.seq = max(l.probe.seq, l.sent)
	return seq
}

// again sends rows under given numbers. A number's time is a function of it.
func (l *probeLine) again(seq uint64, values ...wire.Value) {
	data := wire.Data{Seq: seq, Layout: 1}
	for i, value := range values {
		at := int64(seq+uint64(i))>>16*1000 + int64((seq+uint64(i))&0xffff)
		data.Rows = append(data.Rows, wire.Row{Time: at * 1000, Values: []wire.Value{value, {}}})
	}
	frame, err := l.probe.in.encoder.Data(&data)
	if err != nil {
		l.fault = err
		return
	}
	l.sent = max(l.sent, seq+uint64(len(values)))
	l.send(frame)
}

// until reads until what holds, or the connection or the time is over.
func (l *probeLine) until(limit time.Duration, what func() bool) bool {
	for end := time.Now().Add(limit); !what(); {
		if l.code != 0 || l.fault != nil || !time.Now().Before(end) {
			return false
		}
		l.take(l.socket.next(end, l.probe.in.decoder, &l.goAway), end)
	}
	return true
}

// settled waits until all that was sent is acknowledged.
func (l *probeLine) settled() bool {
	return l.until(2*patience, func() bool { return l.acked >= l.sent })
}

// take notes what the server sent, and judges it by the rules that always hold.
func (l *probeLine) take(got answer, end time.Time) {
	p, decoder := l.probe, l.probe.in.decoder
	if got.kind == 0 {
		switch {
		case got.code == 1006 && got.err != nil && !time.Now().Before(end): // nothing came in time
		case errors.Is(got.err, errRawMessage):
			p.note(alwaysRead, false, "%v", got.err)
			l.code = got.code
		default:
			l.code = got.code
		}
		return
	}
	p.note(alwaysSize, len(got.frame) <= l.maxRx, "a frame of type %d with %d bytes, while max_rx is %d", got.kind, len(got.frame), l.maxRx)
	p.note(alwaysWelcome, l.greeted || got.kind == wire.FrameWelcome, "a frame of type %d came first", got.kind)
	var err error
	switch got.kind {
	case wire.FrameWelcome:
		l.welcome, err = decoder.Welcome(got.frame)
		l.greeted = true
	case wire.FrameAck:
		var ack wire.Ack
		ack, err = decoder.Ack(got.frame)
		p.note(alwaysAck, ack.Next <= l.sent && ack.Next >= l.acked, "next is %d, after %d; rows before %d were sent", ack.Next, l.acked, l.sent)
		l.acked = max(l.acked, ack.Next)
		l.acks = append(l.acks, ack)
	case wire.FrameNotice:
		var notice wire.Notice
		notice, err = decoder.Notice(got.frame)
		l.notices = append(l.notices, notice)
	case wire.FramePong:
		var pong wire.Pong
		pong, err = decoder.Pong(got.frame)
		l.pongs = append(l.pongs, pong)
	case wire.FrameCommand:
		_, err = decoder.Command(got.frame)
	default:
	}
	p.note(alwaysRead, err == nil, "%v", err)
}

// rejects gathers the refusals of all acks.
func (l *probeLine) rejects() (list []wire.Reject, rejected uint64) {
	for i := range l.acks {
		list = wire.AppendRejects(list, l.acks[i].Rejects)
		rejected += l.acks[i].Rejected
	}
	return list, rejected
}

// allStored judges that everything was acknowledged without a refusal.
func (l *probeLine) allStored() verdict {
	if !l.settled() {
		return l.unsettled()
	}
	list, _ := l.rejects()
	return judged(len(list) == 0, "refused: %v", list)
}

// unsettled says why not everything was acknowledged.
func (l *probeLine) unsettled() verdict {
	if l.code != 0 {
		return broken("the server closed with %d (GOAWAY %d)", l.code, l.goAway)
	}
	return broken("rows before %d were acknowledged within %s, not %d", l.acked, 2*patience, l.sent)
}
