package proxy

import (
	"errors"
	"io"
	"time"
)

// read takes in what one side sends, up to the plan's point.
func (p *pipe) read() {
	defer close(p.pieces)
	c := p.conn
	point, action := Point{Part: -1}, None
	if c.plan.Action != None && c.plan.Direction == p.direction {
		point, action = c.plan.At, c.plan.Action
	}
	buffer := make([]byte, readSize)
	for {
		n, err := p.from.Read(buffer)
		switch {
		case c.hasVanished():
			<-c.over
			return
		case p.direction == Down && c.isHeld():
			p.discard()
			return
		}
		taken, reached := p.cursor.pass(buffer[:n], point)
		p.look()
		if !reached {
			if n > 0 && !p.hand(piece{bytes: append([]byte(nil), buffer[:n]...), due: p.due()}) {
				return
			}
			if err != nil {
				p.ended(err)
				return
			}
			continue
		}
		c.proxy.count(action.String())
		if !p.hand(piece{bytes: append([]byte(nil), buffer[:taken]...), due: p.due(), action: action}) {
			return
		}
		switch action {
		case Swallow:
			p.discard()
		case Hold:
			p.hold(append([]byte(nil), buffer[taken:n]...), err)
		default: // the writer ends it, after the bytes before the point
			<-c.over
		}
		return
	}
}

// look notices who the device is, and when it is back.
func (p *pipe) look() {
	c, at := p.conn, p.cursor
	switch {
	case p.direction == Up && at.head != nil && at.beyondHead():
		c.credential = credentialOf(at.head)
		at.head = nil
		close(c.known)
		c.proxy.back(c.credential, c, false)
	case p.direction == Down && !p.welcomed && (at.part > 1 || at.part == 1 && at.offset == at.size):
		p.welcomed = true
		if closed(c.known) {
			c.proxy.back(c.credential, c, true)
		}
	}
}

// hand gives a piece to the writer; false: the connection is over.
func (p *pipe) hand(next piece) bool {
	select {
	case p.pieces <- next:
		return true
	case <-p.conn.over:
		return false
	}
}

// due is when what was read now is to be delivered.
func (p *pipe) due() time.Time {
	plan := &p.conn.plan
	delay := plan.Latency
	if plan.Jitter > 0 {
		delay += time.Duration(p.random.Int64N(int64(plan.Jitter)))
	}
	if delay == 0 {
		return time.Time{}
	}
	return time.Now().Add(delay)
}

// ended passes on that a side has closed, or reset.
func (p *pipe) ended(err error) {
	if errors.Is(err, io.EOF) {
		p.hand(piece{end: true, due: p.due()})
		return
	}
	p.conn.close(true)
}

// discard reads and forgets, so that the sender notices nothing. Its close is
// not passed on before the other direction has ended.
func (p *pipe) discard() {
	c := p.conn
	var nowhere [4096]byte
	for {
		if _, err := p.from.Read(nowhere[:]); err != nil {
			break
		}
	}
	select {
	case <-c.pipes[1-p.direction].done:
		c.close(false)
	case <-c.over:
	}
}

// hold keeps what the device sends until it is back, and hands it on then.
func (p *pipe) hold(kept []byte, err error) {
	c := p.conn
	close(c.held)
	c.proxy.hold(c.credential, c)
	_ = p.from.SetReadDeadline(time.Now().Add(c.plan.HoldFor))
	buffer := make([]byte, 4096)
	for err == nil && len(kept) < maxHeld {
		var n int
		n, err = p.from.Read(buffer)
		kept = append(kept, buffer[:n]...)
	}
	_ = p.from.SetLinger(0)
	_ = p.from.Close()
	select {
	case <-c.release:
		c.proxy.count("held back and delivered late")
		p.hand(piece{bytes: kept})
		p.hand(piece{end: true})
	case <-c.over:
	}
}

// write delivers pieces when they are due.
func (p *pipe) write() {
	defer close(p.done)
	c := p.conn
	for next := range p.pieces {
		if !p.wait(time.Until(next.due)) || !p.deliver(next.bytes) {
			return
		}
		switch next.action {
		case Cut:
			c.close(false)
		case Reset:
			c.close(true)
		case Vanish:
			close(c.vanished)
		case None, Swallow, Hold: // the reader's
		}
		if next.end {
			_ = p.to.CloseWrite()
		}
	}
}

// deliver writes bytes, in pieces if the plan says so; false: the connection is
// over.
func (p *pipe) deliver(bytes []byte) bool {
	c, plan := p.conn, &p.conn.plan
	for len(bytes) > 0 {
		switch {
		case c.hasVanished():
			<-c.over
			return false
		case p.direction == Down && c.isHeld():
			return true // to nowhere
		}
		size := len(bytes)
		inPieces := plan.Piece > 0 && (plan.PieceFor == 0 || p.passed < plan.PieceFor)
		if inPieces {
			size = min(size, plan.Piece)
		}
		n, err := p.to.Write(bytes[:size])
		if err != nil {
			if p.direction == Down && c.isHeld() {
				return true
			}
			c.close(true)
			return false
		}
		p.passed += int64(n)
		bytes = bytes[n:]
		if inPieces && !p.wait(plan.Gap) {
			return false
		}
	}
	return true
}

// wait waits; false: the connection is over.
func (p *pipe) wait(d time.Duration) bool {
	if d <= 0 {
		return !closed(p.conn.over)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.conn.over:
		return false
	}
}
