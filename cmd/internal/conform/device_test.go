package conform

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"mooring/cmd/internal/websocket"
	"mooring/wire"
)

// device is a small device that keeps to the protocol, but for its quirk. It
// measures every 20 ms; a frame has at most 64 rows.
type device struct {
	quirk     string
	network   *memory
	at        *url.URL
	token     string
	boot      uint32
	authority string // to trust

	next     uint64 // number of the next row
	rows     []measured
	spread   time.Duration
	failures int
	faults   int
}

type measured struct {
	seq   uint64
	value float64
	at    time.Time
}

func (d *device) is(quirk string) bool { return d.quirk == quirk }

// quirky is a Start of devices with a quirk, on this network; "": none.
func quirky(quirk string, network *memory) Start {
	return func(ctx context.Context, at Target) (Program, error) {
		target, err := url.Parse(at.URL)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithCancel(ctx)
		d := &device{quirk: quirk, network: network, at: target, authority: at.Authority, token: at.Token, boot: rand.Uint32() | 1, spread: 5 * time.Second}
		if d.is("one boot_id for all") {
			d.boot = 7
		}
		p := &inProcess{cancel: cancel, ended: make(chan struct{})}
		go func() {
			defer close(p.ended)
			d.run(ctx)
		}()
		return p, nil
	}
}

type inProcess struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

func (p *inProcess) Stop()                  { p.cancel(); <-p.ended }
func (p *inProcess) Ended() <-chan struct{} { return p.ended }
func (p *inProcess) Why() string            { return "the device ended" }

// end is how a connection ended.
type end struct {
	class    wire.CloseClass
	sentData bool
	progress bool
	min, max time.Duration // of a GOAWAY
	after    time.Duration // of Retry-After
	behind   uint64        // the oldest frame
}

func (d *device) run(ctx context.Context) {
	attempts := 0
	for ctx.Err() == nil {
		over := d.attempt(ctx)
		d.failures++
		if over.progress {
			d.failures, d.faults = 0, 0
		}
		d.judgeFaults(over)
		if d.is("never comes back") {
			<-ctx.Done()
		}
		pause(ctx, d.wait(over))
		if d.is("forgets at a reconnect") {
			d.rows = nil
		}
		if attempts++; d.is("numbers from 0") && attempts == 2 {
			d.next, d.rows = 0, nil
		}
		if d.is("a boot_id a connection") {
			d.boot++
		}
		if d.is("times anew") {
			for i := range d.rows {
				d.rows[i].at = time.Now()
			}
		}
	}
}

// judgeFaults is PROTOCOL §9.4.
func (d *device) judgeFaults(over end) {
	if over.class != wire.ClassFault {
		d.faults = 0
		return
	}
	if over.sentData {
		d.faults++
	}
	limit := 2
	if d.is("gives up after one fault") {
		limit = 1
	}
	if d.faults < limit || d.is("never gives up") {
		return
	}
	d.faults = 0
	dropped := 0
	for dropped < len(d.rows) && d.rows[dropped].seq < over.behind {
		dropped++
	}
	d.rows = d.rows[dropped:]
	if d.is("closes the gap") {
		for i := range d.rows {
			d.rows[i].seq = uint64(i)
		}
		d.next = uint64(len(d.rows))
	}
}

// wait is PROTOCOL §9.2 and §9.3.
func (d *device) wait(over end) time.Duration {
	most := min(d.spread<<min(d.failures, 10), 600*time.Second)
	random := rand.N(max(most, 1))
	if d.is("waits without chance") {
		random = most / 2
	}
	if d.is("waits one second") {
		random = time.Second
	}
	if d.is("waits ten seconds") {
		random = 10 * time.Second
	}
	if d.is("comes back at once") {
		return 200 * time.Millisecond
	}
	if over.max > 0 && !d.is("ignores the slot") && (!d.is("takes no slot without width") || over.max > over.min) {
		width := over.max - over.min
		if width <= 0 {
			width = time.Second
		}
		return over.min + rand.N(width)
	}
	if over.after > random {
		random = over.after + rand.N(d.spread)
	}
	switch over.class {
	case wire.ClassLater:
		return time.Minute + random
	case wire.ClassFault:
		return 10*time.Second + random
	case wire.ClassTerminal:
		return 15*time.Minute + random
	default:
		return random
	}
}

func pause(ctx context.Context, span time.Duration) {
	timer := time.NewTimer(span)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// dial connects, with TLS if the URL says so.
func (d *device) dial(ctx context.Context) (net.Conn, error) {
	conn, err := d.network.dial(ctx, d.at.Host)
	if err != nil || d.at.Scheme != "wss" || d.is("speaks no TLS") {
		return conn, err
	}
	known, err := os.ReadFile(d.authority)
	if err != nil {
		conn.Close()
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(known)
	secured := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: d.at.Hostname(), InsecureSkipVerify: d.is("takes any certificate")})
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secured, nil
}

// attempt connects and serves a connection.
func (d *device) attempt(ctx context.Context) end {
	conn, err := d.dial(ctx)
	if err != nil {
		return end{}
	}
	defer conn.Close()
	release := context.AfterFunc(ctx, func() { conn.Close() })
	defer release()
	path := d.at.Path
	if d.is("another path") {
		path = "/stream"
	}
	authorization := "Authorization: Bearer " + d.token + "\r\n"
	if d.is("token in the URL") {
		path, authorization = path+"?token="+d.token, ""
	}
	if d.is("no token") {
		authorization = ""
	}
	subprotocol := "Sec-WebSocket-Protocol: mooring.v1\r\n"
	if d.is("no subprotocol") {
		subprotocol = ""
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s%s\r\n", path, d.at.Host, subprotocol, authorization)
	in := bufio.NewReader(conn)
	response, err := http.ReadResponse(in, nil)
	if err != nil {
		return end{}
	}
	response.Body.Close()
	if response.StatusCode != http.StatusSwitchingProtocols {
		seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
		return end{class: wire.HTTPStatusClass(response.StatusCode), after: time.Duration(seconds) * time.Second}
	}
	c := &connection{device: d, conn: conn, window: 4, messages: make(chan message), encoder: wire.NewEncoder(), decoder: wire.NewDecoder(wire.Limits{}), heartbeat: 30 * time.Second, maxFrame: 16 << 10}
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() { c.read(in, stop) })
	defer reader.Wait()
	defer conn.Close()
	defer close(stop)
	return c.serve(ctx)
}

// read gives messages to serve; a close frame, or websocket.Close without a payload for
// the connection's end, is the last.
func (c *connection) read(in io.Reader, stop <-chan struct{}) {
	for {
		got, err := readFrame(in)
		if err != nil {
			got = message{opcode: websocket.Close}
		}
		select {
		case c.messages <- got:
		case <-stop:
			return
		}
		if got.opcode == websocket.Close {
			return
		}
	}
}

// readFrame reads a server's frame.
func readFrame(in io.Reader) (message, error) {
	frame, err := websocket.Read(in, maxMessage)
	return message{opcode: frame.Opcode(), payload: frame.Payload}, err
}
