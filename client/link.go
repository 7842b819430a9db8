package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"

	"mooring/wire"
)

// What holds until WELCOME says otherwise (PROTOCOL §3, §10).
const (
	framesBeforeWelcome = 4
	defaultHeartbeat    = 30 * time.Second
	defaultMaxFrame     = 16 << 10
)

// farewell is how long the writing of a close frame may take.
const farewell = time.Second

var (
	errSilent = errors.New("nothing was heard for two heartbeats")
	errLeft   = errors.New("left as the server's GOAWAY asked")
	errAgain  = errors.New("reconnected to send rows again that the server could not take")
)

// link is one connection. Run's goroutine writes (link.run), another reads
// (link.read); gws calls the On… methods on the latter.
type link struct {
	client *Client
	socket *gws.Conn
	conn   *patientConn // what socket writes to
	scope  runScope

	heard   atomic.Int64 // when something last came in, since Client.started
	ended   chan struct{}
	readErr error // set when ended is closed

	pongMu  sync.Mutex
	pong    []byte
	hasPong bool

	// Owned by the writer.
	timer        *time.Timer
	timerAt      time.Duration
	writeLimitAt time.Duration // until when the write deadline need not be moved

	// Guarded by Client.mu.
	welcomed bool
	declared uint32 // layouts declared here, by bit
	progress bool
	goAway   *goAway
	leave    *leaving
	holdAt   uint64 // rows from here on are not freed; 0: no such limit
	gap      time.Duration
	gapUntil time.Duration
	lastSent time.Duration

	latencies []time.Duration // the reader's scratch
}

// goAway is the server's announcement of a close.
type goAway struct {
	code     wire.CloseCode
	graceful bool          // acks still come until then
	until    time.Duration // when the server should have closed, since Client.started
	min, max time.Duration
}

// leaving is why this side closes.
type leaving struct {
	code  wire.CloseCode // to send
	class wire.CloseClass
	err   error
}

func (l *link) now() time.Duration { return time.Since(l.client.started) }

// run serves the connection until it is over.
func (l *link) run(ctx context.Context) ending {
	l.heard.Store(int64(l.now()))
	born := l.now()
	go l.read()
	// A write that is stuck must not outlive ctx.
	release := context.AfterFunc(ctx, func() {
		_ = l.socket.NetConn().SetWriteDeadline(time.Now().Add(farewell))
	})
	defer release()

	l.timer = time.NewTimer(time.Hour)
	l.timerAt = l.now() + time.Hour
	defer l.timer.Stop()
	why := l.write(ctx)
	_ = l.socket.NetConn().Close()
	<-l.ended

	end := l.ending(why)
	end.progress = end.progress || l.now()-born >= steady
	return end
}

// read runs gws's loop, which panics on some input, and makes sure that the
// connection is closed and the writer told.
func (l *link) read() {
	defer close(l.ended)
	defer func() {
		if fault := recover(); fault != nil {
			l.readErr = fmt.Errorf("reading: %v", fault)
			l.client.cfg.Logger.Error("reading from the server failed", "fault", fault)
		}
		_ = l.socket.NetConn().Close()
	}()
	l.socket.ReadLoop()
}

// write is the writer's loop. It returns why this side ends the connection, or
// nil if the other side or the network did.
func (l *link) write(ctx context.Context) *leaving {
	c := l.client
	if err := l.sendHello(); err != nil {
		return l.unwritten(ctx, err)
	}
	for {
		next, why, err := l.work()
		if why != nil {
			l.sayGoodbye(why.code)
			return why
		}
		if err != nil {
			return l.unwritten(ctx, err)
		}
		l.sleepUntil(next)
		select {
		case <-c.wake:
		case <-l.timer.C:
			l.timerAt = 0
		case <-l.ended:
			return nil
		case <-ctx.Done():
			l.sayGoodbye(1000)
			return &leaving{class: wire.ClassRetry, err: ctx.Err()}
		}
	}
}

// sleepUntil sets the timer, unless it goes off before anyway.
func (l *link) sleepUntil(at time.Duration) {
	if l.timerAt != 0 && l.timerAt <= at {
		return
	}
	l.timer.Reset(at - l.now())
	l.timerAt = at
}

// work does everything that can be done now and says when to look again.
func (l *link) work() (next time.Duration, why *leaving, err error) {
	if err := l.sendPong(); err != nil {
		return 0, nil, err
	}
	if err := l.sendResults(); err != nil {
		return 0, nil, err
	}
	for {
		now := l.now()
		step := l.nextFrame(now)
		if step.builder != nil {
			err := l.send(gws.OpcodeBinary, step.frame)
			builders.Put(step.builder)
			if err != nil {
				return 0, nil, err
			}
			continue
		}
		if step.dropped > 0 {
			l.client.event(Event{Kind: EventDropped, Seq: step.seq, N: step.dropped, Err: step.why})
			continue
		}
		if step.leave != nil {
			return 0, step.leave, nil
		}
		dead := time.Duration(l.heard.Load()) + 2*step.heartbeat
		if dead <= now {
			return 0, &leaving{class: wire.ClassRetry, err: errSilent}, nil
		}
		return min(step.again, dead), nil, nil
	}
}

// send writes one message.
func (l *link) send(opcode gws.Opcode, payload []byte) error {
	l.limitWrites(l.now())
	if err := l.socket.WriteMessage(opcode, payload); err != nil {
		return err
	}
	return l.conn.failure()
}

// unwritten is what to do after a write failed: the server may have said why, so
// the reader gets some time to come upon its close frame.
func (l *link) unwritten(ctx context.Context, err error) *leaving {
	timer := time.NewTimer(farewell)
	defer timer.Stop()
	select {
	case <-l.ended:
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	return &leaving{class: wire.ClassRetry, err: fmt.Errorf("writing: %w", err)}
}

// limitWrites bounds how long a write may take. Two heartbeats: a server whose
// database is away may leave its socket unread for long.
func (l *link) limitWrites(now time.Duration) {
	if now < l.writeLimitAt {
		return
	}
	c := l.client
	c.mu.Lock()
	heartbeat := c.heartbeat
	c.mu.Unlock()
	_ = l.socket.NetConn().SetWriteDeadline(time.Now().Add(2*heartbeat + heartbeat/2))
	l.writeLimitAt = now + heartbeat/2
}

func (l *link) sendHello() error {
	c := l.client
	builder := builders.Get().(*frameBuilder)
	defer builders.Put(builder)
	frame := builder.encoder.Hello(wire.Hello{
		BootID:     c.bootID,
		Heartbeat:  int(c.cfg.Heartbeat / time.Second),
		MaxReceive: c.cfg.MaxReceive,
		Model:      c.cfg.Model,
		Firmware:   c.cfg.Firmware,
	})
	return l.send(gws.OpcodeBinary, frame)
}

func (l *link) sendPong() error {
	l.pongMu.Lock()
	pong, wanted := l.pong, l.hasPong
	l.pong, l.hasPong = nil, false
	l.pongMu.Unlock()
	if !wanted {
		return nil
	}
	return l.send(gws.OpcodePong, pong)
}

// sayGoodbye sends a close frame if the network takes it; code 0: none.
func (l *link) sayGoodbye(code wire.CloseCode) {
	if code == 0 {
		return
	}
	_ = l.socket.NetConn().SetWriteDeadline(time.Now().Add(farewell))
	_ = l.socket.WriteClose(uint16(code), nil)
}

// ending sums up what both sides know. The server's close code counts most; if
// it was lost, as libraries and resets do, the GOAWAY before it says the same.
func (l *link) ending(why *leaving) ending {
	c := l.client
	c.mu.Lock()
	defer c.mu.Unlock()
	end := ending{class: wire.ClassRetry, code: 1006, err: l.readErr, progress: l.progress}
	if closed, ok := errors.AsType[*gws.CloseError](l.readErr); ok {
		end.code = wire.CloseCode(closed.Code)
		if closed.Code == 0 {
			end.code = 1005
		}
		end.class = end.code.Class()
	} else if why != nil {
		end.class, end.err = why.class, why.err
	}
	if l.goAway != nil {
		end.min, end.max = l.goAway.min, l.goAway.max
		if end.code < 4000 && (why == nil || errors.Is(why.err, errLeft)) {
			end.code, end.class = l.goAway.code, l.goAway.code.Class()
		}
	}
	return end
}
