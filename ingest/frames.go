package ingest

import (
	"errors"

	"github.com/lxzan/gws"

	"mooring/wire"
)

// events is what gws calls, always on the connection's read goroutine.
type events struct{}

func (events) OnOpen(*gws.Conn) {}

// OnClose comes once, at the end of a loop.
func (events) OnClose(socket *gws.Conn, err error) {
	if s := sessionOf(socket); !s.link.resting {
		s.readErr = err
	}
}

// OnPing echoes the payload; gws's own habit, an empty Pong, makes strict
// clients drop the link.
func (events) OnPing(socket *gws.Conn, payload []byte) { sessionOf(socket).echo(payload) }

// OnPong has nothing to do: any byte that came in was a sign of life.
func (events) OnPong(*gws.Conn, []byte) {}

// OnMessage handles one frame. The message's bytes are gws's again afterwards;
// nothing may alias them.
func (events) OnMessage(socket *gws.Conn, message *gws.Message) {
	sessionOf(socket).receive(byte(message.Opcode), message.Bytes())
	_ = message.Close()
}

// receive handles one message, on the read goroutine. A panic that passes through
// leaves inHandler set.
func (s *session) receive(opcode byte, payload []byte) {
	s.link.woken = false
	s.inHandler = true
	s.message(opcode, payload)
	s.inHandler = false
}

func sessionOf(socket *gws.Conn) *session { return socket.NetConn().(*link).session }

// message handles one frame from the device.
func (s *session) message(opcode byte, frame []byte) {
	if s.ending.Load() {
		return
	}
	if opcode != opBinary {
		s.shut(closeText)
		return
	}
	kind, err := wire.FrameTypeOf(frame)
	if err != nil {
		s.shut(closeFrameError(err))
		return
	}
	if kind >= wire.FrameWelcome && kind <= wire.FramePong {
		s.shut(closeServersFrame) // PROTOCOL §3.6
		return
	}
	if !s.framed.Load() {
		s.framed.Store(true)
		s.link.visit.End()
		s.link.visit = nil
	}
	if kind != wire.FrameData && !s.link.guard.spend(s.link.clock.now(), &s.gateway.cfg) {
		s.shut(closeFlood)
		return
	}
	if kind == wire.FrameHello {
		s.hello(frame)
		return
	}
	if !s.opened && !s.open(wire.Hello{}) {
		return
	}
	switch kind {
	case wire.FrameData:
		s.data(frame)
	case wire.FrameLayout:
		s.layout(frame)
	case wire.FrameResult:
		s.result(frame)
	case wire.FramePing:
		s.pingFrame(frame)
	default: // 32 to 127
		s.gateway.metrics.framesIgnored.Inc()
	}
}

// borrow lends a decoder for one frame. Only sessions that declare layouts on
// the fly have one of their own; a hundred thousand idle ones need none.
func (s *session) borrow() *wire.Decoder {
	if s.decoder != nil {
		return s.decoder
	}
	return s.gateway.decoders.Get().(*wire.Decoder)
}

func (s *session) giveBack(decoder *wire.Decoder) {
	if s.decoder == nil {
		s.gateway.decoders.Put(decoder)
	}
}

func (s *session) hello(frame []byte) {
	s.gateway.metrics.helloFrames.Inc()
	if s.opened {
		s.shut(closeSecondHello)
		return
	}
	decoder := s.borrow()
	hello, err := decoder.Hello(frame)
	s.giveBack(decoder)
	if err != nil {
		s.shut(closeFrameError(err))
		return
	}
	s.open(hello)
}

func (s *session) layout(frame []byte) {
	s.gateway.metrics.layoutFrames.Inc()
	decoder := s.borrow()
	layout, err := decoder.Layout(frame)
	s.giveBack(decoder)
	if err == nil {
		s.gateway.layouts.share(&layout)
	}
	var refused *wire.LayoutError
	switch {
	case err == nil:
		_, refused = s.declare(layout)
	case !errors.As(err, &refused):
		s.shut(closeFrameError(err))
		return
	}
	if refused != nil {
		s.undeclare(refused.Layout)
		s.rejectLayout(refused)
	}
}

func (s *session) result(frame []byte) {
	g := s.gateway
	g.metrics.resultFrames.Inc()
	decoder := s.borrow()
	result, err := decoder.Result(frame)
	s.giveBack(decoder)
	switch {
	case err != nil:
		s.shut(closeFrameError(err))
	case g.cfg.OnResult != nil:
		g.cfg.OnResult(s.device, result)
	}
}

func (s *session) pingFrame(frame []byte) {
	s.gateway.metrics.pingFrames.Inc()
	decoder := s.borrow()
	ping, err := decoder.Ping(frame)
	s.giveBack(decoder)
	if err != nil {
		s.shut(closeFrameError(err))
		return
	}
	s.pong(ping.Echo)
}
