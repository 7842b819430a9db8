package client_test

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/lxzan/gws"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mooring/client"
	"mooring/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeServer is a gateway in the test's hands: every dial of the client gives a
// peer, whose frames the test reads and writes by itself.
type fakeServer struct {
	t     *testing.T
	dials chan net.Conn
}

func newFakeServer(t *testing.T) *fakeServer {
	t.Helper()
	return &fakeServer{t: t, dials: make(chan net.Conn, 16)}
}

func (s *fakeServer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case s.dials <- ours:
		return theirs, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// peer is the server's end of one connection.
type peer struct {
	gws.BuiltinEventHandler
	t        *testing.T
	conn     net.Conn
	socket   *gws.Conn
	header   http.Header
	received chan []byte
	pongs    chan []byte
	over     chan error
	encoder  *wire.Encoder
	decoder  *wire.Decoder
}

func (p *peer) OnMessage(_ *gws.Conn, message *gws.Message) {
	p.received <- append([]byte(nil), message.Bytes()...)
	_ = message.Close()
}

func (p *peer) OnPong(_ *gws.Conn, payload []byte) { p.pongs <- payload }
func (p *peer) OnClose(_ *gws.Conn, err error)     { p.over <- err }

// next takes the next connection, before its upgrade.
func (s *fakeServer) next() net.Conn {
	s.t.Helper()
	select {
	case conn := <-s.dials:
		return conn
	case <-time.After(24 * time.Hour): // of the bubble's time
		s.t.Fatal("the client does not connect")
		return nil
	}
}

// accept takes the next connection, upgrades it and reads from it.
func (s *fakeServer) accept() *peer {
	s.t.Helper()
	p := s.upgrade()
	go p.socket.ReadLoop()
	return p
}

// upgrade takes the next connection and upgrades it.
func (s *fakeServer) upgrade() *peer {
	s.t.Helper()
	conn := s.next()
	p := &peer{
		t: s.t, conn: conn,
		received: make(chan []byte, 4096),
		pongs:    make(chan []byte, 16),
		over:     make(chan error, 1),
		encoder:  wire.NewEncoder(),
		decoder:  wire.NewDecoder(wire.Limits{Oldest: -1 << 60}),
	}
	reader := bufio.NewReader(conn)
	request, err := http.ReadRequest(reader)
	require.NoError(s.t, err)
	p.header = request.Header
	upgrader := gws.NewUpgrader(p, &gws.ServerOption{
		SubProtocols: []string{wire.Subprotocol}, ParallelGolimit: 1,
	})
	p.socket, err = upgrader.UpgradeFromConn(conn, reader, request)
	require.NoError(s.t, err)
	return p
}

func (p *peer) send(frame []byte) {
	p.t.Helper()
	require.NoError(p.t, p.socket.WriteMessage(gws.OpcodeBinary, frame))
}

func (p *peer) welcome(window int) {
	p.t.Helper()
	p.send(p.encoder.Welcome(wire.Welcome{
		Time: time.Now().UnixMilli(), Session: 1, Heartbeat: 30, MaxFrame: 16 << 10,
		Window: window, Spread: 5,
	}))
}

func (p *peer) ack(next uint64, window int, rejects ...wire.Reject) {
	p.t.Helper()
	p.send(p.encoder.Ack(&wire.Ack{Next: next, Window: window, Rejected: uint64(len(rejects)), Rejects: rejects}))
}

func (p *peer) notice(notice wire.Notice) {
	p.t.Helper()
	p.send(p.encoder.Notice(notice))
}

// frame waits for the next frame of this type.
func (p *peer) frame(kind wire.FrameType) []byte {
	p.t.Helper()
	select {
	case frame := <-p.received:
		got, err := wire.FrameTypeOf(frame)
		require.NoError(p.t, err)
		require.Equal(p.t, kind, got)
		return frame
	case <-time.After(24 * time.Hour):
		p.t.Fatalf("no frame of type %d", kind)
		return nil
	}
}

// data waits for a DATA frame and gives its head.
func (p *peer) data() wire.DataHead {
	p.t.Helper()
	head, err := p.decoder.DataHead(p.frame(wire.FrameData))
	require.NoError(p.t, err)
	return head
}

// greet takes HELLO and LAYOUT.
func (p *peer) greet() (wire.Hello, wire.Layout) {
	p.t.Helper()
	hello, err := p.decoder.Hello(p.frame(wire.FrameHello))
	require.NoError(p.t, err)
	layout, err := p.decoder.Layout(p.frame(wire.FrameLayout))
	require.NoError(p.t, err)
	return hello, layout
}

func (p *peer) closed() error {
	p.t.Helper()
	select {
	case err := <-p.over:
		return err
	case <-time.After(24 * time.Hour):
		p.t.Fatal("the client does not close")
		return nil
	}
}

// device is a running client with one layout of one number.
type device struct {
	*client.Client
	layout client.LayoutID
	stop   func()
	events chan client.Event
}

func start(t *testing.T, server *fakeServer, change func(*client.Config)) *device {
	t.Helper()
	d := &device{events: make(chan client.Event, 1024)}
	cfg := client.Config{
		URL: "ws://mooring.test/v1/stream", Token: "secret", Model: "probe",
		FrameRows: 2, Dial: server.dial,
		OnEvent: func(event client.Event) { d.events <- event },
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	d.Client, err = client.New(cfg)
	require.NoError(t, err)
	d.layout, err = d.Layout("probe", []wire.Channel{{Name: "x"}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	d.stop = func() {
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
		for {
			select {
			case conn := <-server.dials:
				_ = conn.Close()
			default:
				return
			}
		}
	}
	return d
}

func (d *device) rows(t *testing.T, count int) {
	t.Helper()
	batch := make([]wire.Row, count)
	for i := range batch {
		batch[i] = wire.Row{Time: int64(i) * 1000, Values: []wire.Value{{Kind: wire.ValueNumber, Number: float64(i)}}}
	}
	_, err := d.AppendBatch(d.layout, batch)
	require.NoError(t, err)
}

// event waits for the next event of this kind.
func (d *device) event(t *testing.T, kind client.EventKind) client.Event {
	t.Helper()
	for {
		select {
		case event := <-d.events:
			if event.Kind == kind {
				return event
			}
		case <-time.After(24 * time.Hour):
			t.Fatalf("no event of kind %d", kind)
		}
	}
}
