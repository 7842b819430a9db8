package proxy

import (
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"
)

// Bounds of one direction.
const (
	readSize = 16 << 10 // bytes
	queue    = 64       // reads
	maxHeld  = 1 << 20  // bytes
)

// conn is one connection through the proxy.
type conn struct {
	proxy  *Proxy
	plan   Plan
	device *net.TCPConn
	server *net.TCPConn // nil until dialled; under mu

	mu       sync.Mutex
	closing  sync.Once
	over     chan struct{} // closed when both sides are
	vanished chan struct{} // closed when the Action is Vanish and was done
	held     chan struct{} // closed when the Action is Hold and began
	release  chan struct{} // closed when what is held back may go

	credential string        // of the request; set by the goroutine that reads it
	known      chan struct{} // closed when credential is set
	pipes      [2]*pipe
}

func newConn(p *Proxy, device *net.TCPConn, plan Plan) *conn {
	return &conn{
		proxy: p, plan: plan, device: device,
		over: make(chan struct{}), vanished: make(chan struct{}), held: make(chan struct{}),
		release: make(chan struct{}), known: make(chan struct{}),
	}
}

// pipe is one direction of a connection.
type pipe struct {
	conn      *conn
	direction Direction
	from, to  *net.TCPConn
	cursor    *cursor
	random    *rand.Rand
	pieces    chan piece
	done      chan struct{} // closed when nothing more is delivered
	passed    int64         // bytes delivered; the writer's
	welcomed  bool          // of Down: the server's first frame has passed; the reader's
}

// piece is something that a pipe's reader hands to its writer.
type piece struct {
	bytes  []byte
	due    time.Time
	action Action // behind the bytes
	end    bool   // the sender has closed its side
}

func (c *conn) run(seeds [2]uint64) {
	defer c.proxy.leave(c)
	defer c.close(false)
	if c.plan.Refuse {
		c.proxy.count("refused")
		c.close(true)
		return
	}
	dialled, err := (&net.Dialer{}).DialContext(c.proxy.life, "tcp", c.proxy.cfg.Target)
	if err != nil {
		c.close(true) // as if nobody listened
		return
	}
	c.mu.Lock()
	c.server = dialled.(*net.TCPConn)
	c.mu.Unlock()
	if closed(c.over) { // aborted meanwhile
		_ = dialled.Close()
		return
	}
	if c.plan.Latency > 0 {
		c.proxy.count("delayed")
	}
	if c.plan.Piece == 1 {
		c.proxy.count("one byte at a time")
	}
	c.pipes = [2]*pipe{
		Up:   {from: c.device, to: c.server},
		Down: {from: c.server, to: c.device},
	}
	var workers sync.WaitGroup
	for direction, p := range c.pipes {
		p.conn, p.direction, p.cursor = c, Direction(direction), newCursor()
		p.pieces, p.done = make(chan piece, queue), make(chan struct{})
		p.random = rand.New(rand.NewPCG(seeds[direction], 0)) //nolint:gosec // reproducible on purpose
	}
	for _, p := range c.pipes {
		workers.Go(p.read)
		workers.Go(p.write)
	}
	workers.Wait()
}

// close ends both sides; hard: with RST.
func (c *conn) close(hard bool) {
	c.closing.Do(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		close(c.over)
		for _, side := range []*net.TCPConn{c.device, c.server} {
			if side == nil {
				continue
			}
			if hard {
				_ = side.SetLinger(0)
			}
			_ = side.Close()
		}
	})
}

func (c *conn) abort() { c.close(true) }

func (c *conn) hasVanished() bool { return closed(c.vanished) }

func (c *conn) isHeld() bool { return closed(c.held) }

func closed(signal chan struct{}) bool {
	select {
	case <-signal:
		return true
	default:
		return false
	}
}

// credentialOf finds the credential in a handshake's request; "": it has none.
func credentialOf(head []byte) string {
	for line := range strings.SplitSeq(string(head), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(name, "Authorization") {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
