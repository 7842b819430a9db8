package fleet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"mooring/wire"
)

// Intruders misbehave over raw sockets with the credentials of devices: the bad
// inputs of PROTOCOL §11, whose answers they check, second connections of a
// device, and rows sent again in other groups.

// outcome is what became of a misdeed.
type outcome uint8

const (
	// asStated: the server did what the protocol states.
	asStated outcome = iota
	// disturbed: the server or the network was busy otherwise, as when the device
	// itself came back and took over.
	disturbed
	// otherwise: the server did something else.
	otherwise
)

// misdeed is one thing an intruder does.
type misdeed struct {
	name string
	do   func(ctx context.Context, intruder *intruder, d *device) (outcome, string)
}

// patience is how long an intruder waits for an answer.
const patience = 5 * time.Second

// firstFrame is how long a server waits for the first frame (PROTOCOL §2.7),
// and some more.
const firstFrame = 14 * time.Second

type intruder struct {
	run     *run
	random  *rand.Rand
	encoder *wire.Encoder
	decoder *wire.Decoder
}

func newIntruder(r *run, number int) *intruder {
	return &intruder{
		run:     r,
		random:  rand.New(rand.NewPCG(r.cfg.Seed, mix(saltRefusal+uint64(number)))), //nolint:gosec // reproducible on purpose
		encoder: wire.NewEncoder(), decoder: wire.NewDecoder(wire.Limits{}),
	}
}

// intruders is how many there are at a time.
func (r *run) intruders() int {
	switch {
	case r.rates.intrusion == 0:
		return 0
	case r.cfg.Faults == FaultsHeavy:
		return 2
	default:
		return 1
	}
}

// intrude does one misdeed after the other, in an order that the seed decides,
// until ctx ends. What was disturbed is tried again later.
func (r *run) intrude(ctx context.Context, number int) {
	in := newIntruder(r, number)
	deck := misdeeds()
	in.random.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		timer.Reset(spread(in.random, r.rates.intrusion*time.Duration(r.intruders())))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		victim := r.devices[in.random.IntN(len(r.devices))]
		if victim.current.Load() == nil {
			continue
		}
		deed := deck[0]
		deck = append(deck[1:], deed)
		result, detail := deed.do(ctx, in, victim)
		if ctx.Err() != nil {
			return
		}
		r.inputs.add(deed.name, result, detail)
		if result == disturbed { // soon again
			at := len(deck) / 4
			copy(deck[at+1:], deck[at:len(deck)-1])
			deck[at] = deed
		}
	}
}

func misdeeds() []misdeed {
	deck := []misdeed{
		{"two connections at once", secondConnection},
		{"rows again in other groups", sendAgain},
	}
	for range 2 { // these more often than a single bad input
		deck = append(deck, deck[:2]...)
	}
	for _, input := range badInputs() {
		deck = append(deck, misdeed{input.line + " " + input.text, func(ctx context.Context, in *intruder, d *device) (outcome, string) {
			return in.input(ctx, d, input)
		}})
	}
	return deck
}

// open connects with the device's credential and takes WELCOME.
func (in *intruder) open(ctx context.Context, d *device, bootID uint32) (*rawSocket, wire.Welcome, bool) {
	socket, _, err := rawDial(ctx, in.run.cfg.URL, in.run.cfg.TLS, newHandshake(d.token.Token))
	if err != nil || socket == nil {
		return nil, wire.Welcome{}, false
	}
	hello := in.encoder.Hello(wire.Hello{BootID: bootID, Heartbeat: 30, MaxReceive: 16 << 10, Model: "fleet-intruder"})
	if socket.send(hello) == nil {
		var goAway wire.CloseCode
		got := socket.next(time.Now().Add(patience), in.decoder, &goAway)
		if got.kind == wire.FrameWelcome {
			if welcome, err := in.decoder.Welcome(got.frame); err == nil {
				return socket, welcome, true
			}
		}
	}
	socket.close()
	return nil, wire.Welcome{}, false
}

// input does one bad input and checks the answer.
func (in *intruder) input(ctx context.Context, d *device, input badInput) (outcome, string) {
	ctx, cancel := context.WithTimeout(ctx, firstFrame)
	defer cancel()
	if input.handshake != nil {
		return in.badHandshake(ctx, d, input)
	}
	if input.mute {
		socket, _, err := rawDial(ctx, in.run.cfg.URL, in.run.cfg.TLS, newHandshake(d.token.Token))
		if err != nil || socket == nil {
			return disturbed, ""
		}
		defer socket.close()
		return in.expectClose(socket, input.want.close, time.Now().Add(firstFrame))
	}
	socket, welcome, ok := in.open(ctx, d, in.random.Uint32()|1)
	if !ok {
		return disturbed, ""
	}
	defer socket.close()
	at := inputPlace{
		seq: 1<<40 + in.random.Int64N(1<<50), time: time.Now().UnixMilli(), maxFrame: welcome.MaxFrame,
	}
	layout := wire.Layout{Number: 1, Name: intruderLayout, Channels: intruderChannels()}
	if socket.send(in.encoder.Layout(&layout)) != nil {
		return disturbed, ""
	}
	// A write may fail because the server closed already; its reason can be read.
	_ = socket.raw(input.bytes(at))
	if input.want.close != 0 {
		return in.expectClose(socket, input.want.close, time.Now().Add(patience))
	}
	_ = socket.send(in.encoder.Ping(wire.Ping{Echo: uint64(at.seq)}))
	return in.expectFrames(socket, input.want, at)
}

func (in *intruder) badHandshake(ctx context.Context, d *device, input badInput) (outcome, string) {
	ask := newHandshake(d.token.Token)
	input.handshake(&ask)
	socket, answered, err := rawDial(ctx, in.run.cfg.URL, in.run.cfg.TLS, ask)
	if socket != nil {
		socket.close()
	}
	switch {
	case err != nil, answered.status == http.StatusTooManyRequests, answered.status >= 500:
		return disturbed, ""
	case answered.status == input.want.status:
		return asStated, ""
	default:
		return otherwise, fmt.Sprintf("HTTP %d, not %d", answered.status, input.want.status)
	}
}

// expectClose reads until the connection is over. A reset may swallow the close
// frame; the GOAWAY before it counts as well.
func (in *intruder) expectClose(socket *rawSocket, want wire.CloseCode, until time.Time) (outcome, string) {
	var goAway wire.CloseCode
	for {
		got := socket.next(until, in.decoder, &goAway)
		switch {
		case got.kind != 0:
			continue
		case got.code == want || got.goAway == want:
			return asStated, ""
		case passing(got.code) || passing(got.goAway):
			return disturbed, unanswered(got.err)
		default:
			return otherwise, fmt.Sprintf("close %d, not %d", got.code, want)
		}
	}
}

// unanswered tells an answer that did not come in time, which a fleet's faults may
// be to blame for, from a connection that ended.
func unanswered(err error) string {
	if isTimeout(err) {
		return "nothing came in time"
	}
	return ""
}

// passing are ends that have other reasons than the input.
func passing(code wire.CloseCode) bool {
	switch code {
	case wire.CloseReplaced, wire.CloseDrain, wire.CloseInternal, wire.CloseHeartbeat, wire.CloseOverloaded, 1001, 1006:
		return true
	default:
		return false
	}
}

// expectFrames reads until everything expected was said and a PONG shows that
// the connection stayed.
func (in *intruder) expectFrames(socket *rawSocket, want reaction, at inputPlace) (outcome, string) {
	var goAway wire.CloseCode
	until := time.Now().Add(patience)
	pong := false
	acked := want.rows == 0 && want.value == 0 && !want.accepted
	layout := want.layout == 0 && !want.needed
	for !pong || !acked || !layout {
		got := socket.next(until, in.decoder, &goAway)
		switch got.kind {
		case 0:
			if passing(got.code) || passing(got.goAway) {
				return disturbed, unanswered(got.err)
			}
			return otherwise, fmt.Sprintf("close %d", got.code)
		case wire.FramePong:
			pong = true
		case wire.FrameNotice:
			notice, err := in.decoder.Notice(got.frame)
			switch {
			case err != nil:
				return otherwise, err.Error()
			case notice.Kind == wire.NoticeNeedLayout && want.needed:
				layout = true
			case notice.Kind == wire.NoticeLayoutRejected:
				if want.layout != notice.Reason || want.channel != notice.Channel {
					return otherwise, fmt.Sprintf("LAYOUT_REJECTED channel %d %s", notice.Channel, notice.Reason)
				}
				layout = true
			}
		case wire.FrameAck:
			ack, err := in.decoder.Ack(got.frame)
			if err != nil {
				return otherwise, err.Error()
			}
			if ack.Next <= uint64(at.seq) {
				continue
			}
			if fault := want.judge(ack, at); fault != "" {
				return otherwise, fault
			}
			acked = true
		default:
		}
	}
	return asStated, ""
}

// judge compares an ACK with what is wanted.
func (w *reaction) judge(ack wire.Ack, at inputPlace) string {
	code, channel := w.rows, wire.WholeRow
	if w.value != 0 {
		code, channel = w.value, w.channel
	}
	switch {
	case code == 0 && len(ack.Rejects) == 0:
		return ""
	case len(ack.Rejects) != 1:
		return fmt.Sprintf("refusals %v", ack.Rejects)
	case ack.Rejects[0].Code != code || ack.Rejects[0].Channel != channel || ack.Rejects[0].Seq != uint64(at.seq):
		return fmt.Sprintf("refused channel %d %s, not %d %s", ack.Rejects[0].Channel, ack.Rejects[0].Code, channel, code)
	default:
		return ""
	}
}

// secondConnection opens two connections of one device: the first must be told
// that it was replaced.
func secondConnection(ctx context.Context, in *intruder, d *device) (outcome, string) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	first, _, ok := in.open(ctx, d, in.random.Uint32()|1)
	if !ok {
		return disturbed, ""
	}
	defer first.close()
	second, _, ok := in.open(ctx, d, in.random.Uint32()|1)
	if !ok {
		return disturbed, ""
	}
	defer second.close()
	return in.expectClose(first, wire.CloseReplaced, time.Now().Add(patience))
}

// sendAgain sends rows of the device's boot that are settled, and some that are
// on their way, in other groups and over another connection. They must not be
// stored twice, which Verify finds out.
func sendAgain(ctx context.Context, in *intruder, d *device) (outcome, string) {
	boot := d.current.Load()
	if boot == nil {
		return disturbed, ""
	}
	const about = 200
	last := boot.acked.Load() + uint64(in.random.IntN(about))
	last = min(last, boot.client.Stats().Next)
	if last == 0 {
		return disturbed, ""
	}
	seq := last - min(last, uint64(1+in.random.IntN(about)))
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	socket, welcome, ok := in.open(ctx, d, boot.BootID)
	if !ok {
		return disturbed, ""
	}
	defer socket.close()
	if socket.send(in.encoder.Layout(&in.run.layout)) != nil {
		return disturbed, ""
	}
	plan := in.run.plan
	for frames := 0; seq < last && frames < welcome.Window; frames++ {
		data := wire.Data{Seq: seq}
		for range 1 + in.random.IntN(3*in.run.cfg.Rows) {
			if seq == last {
				break
			}
			data.Rows = append(data.Rows, wire.Row{
				Time: 1000 * plan.Time(&boot.Boot, seq), Values: plan.AppendSent(nil, &boot.Boot, seq),
			})
			seq++
		}
		frame, err := in.encoder.Data(&data)
		if err != nil {
			return otherwise, err.Error()
		}
		if len(frame) > welcome.MaxFrame {
			return disturbed, ""
		}
		if socket.send(frame) != nil {
			return disturbed, ""
		}
	}
	var goAway wire.CloseCode
	for until := time.Now().Add(patience); ; {
		got := socket.next(until, in.decoder, &goAway)
		switch got.kind {
		case 0:
			if passing(got.code) || passing(got.goAway) {
				return disturbed, ""
			}
			return otherwise, fmt.Sprintf("close %d", got.code)
		case wire.FrameAck:
			if ack, err := in.decoder.Ack(got.frame); err == nil && ack.Next >= seq {
				return asStated, ""
			}
		default:
		}
	}
}
