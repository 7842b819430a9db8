package fleet

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/url"
	"slices"
	"time"

	"mooring/cmd/internal/websocket"
	"mooring/wire"
)

func probeRefusedAlone(ctx context.Context, p *probe) verdict {
	return p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
		nan := wire.Value{Kind: wire.ValueNumber, Number: math.NaN()}
		good := wire.Value{Kind: wire.ValueNumber, Number: 1}
		seq := l.values(good, nan, nan, nan, good)
		if !l.settled() {
			return l.unsettled()
		}
		list, rejected := l.rejects()
		want := []wire.Reject{{Seq: seq + 1, N: 3, Channel: 0, Code: wire.CodeNotFinite}}
		return judged(slices.Equal(list, want) && rejected == 3, "%d refusals, listed %v", rejected, list)
	})
}

func probeManyRefusals(ctx context.Context, p *probe) verdict {
	return p.with(ctx, wire.Hello{MaxReceive: wire.MinReceive}, func(l *probeLine) verdict {
		const refused = 40
		var values []wire.Value
		for range refused { // every other row, so that no two are one entry
			values = append(values, wire.Value{Kind: wire.ValueNumber, Number: math.Inf(1)}, wire.Value{Kind: wire.ValueNumber})
		}
		l.values(values...)
		if !l.settled() {
			return l.unsettled()
		}
		most := 0
		for i := range l.acks {
			most = max(most, len(l.acks[i].Rejects))
		}
		_, rejected := l.rejects()
		return judged(rejected == refused && most <= wire.MaxAckRejects && most > 0, "%d counted of %d, %d listed in one ACK", rejected, refused, most)
	})
}

// probeFragments sends a DATA frame in three fragments.
func probeFragments(ctx context.Context, p *probe) verdict {
	return p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
		frame := rowOf(inputPlace{seq: int64(l.sent), time: time.Now().UnixMilli()}, packInt(1), packNil)
		message := slices.Concat(
			maskedFrame(websocket.Binary, frame[:3]), maskedFrame(websocket.Fin|websocket.Ping, []byte("between")),
			maskedFrame(0, frame[3:9]), maskedFrame(0, nil), maskedFrame(0x80, frame[9:]))
		_ = l.socket.raw(message)
		l.sent++
		p.seq = l.sent
		return l.allStored()
	})
}

func probeManyFragments(ctx context.Context, p *probe) verdict {
	return p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
		message := maskedFrame(websocket.Binary, []byte{0x91})
		for range 2000 {
			message = append(message, maskedFrame(0, nil)...)
		}
		_ = l.socket.raw(append(message, maskedFrame(0x80, []byte{99})...))
		return l.closedWith(wire.CloseTooLarge)
	})
}

// closedWith waits for the end.
func (l *probeLine) closedWith(code wire.CloseCode) verdict {
	l.until(2*patience, func() bool { return false })
	return judged(l.code == code || l.code == 1006 && l.goAway == code, "close %d, GOAWAY %d", l.code, l.goAway)
}

func probePing(ctx context.Context, p *probe) verdict {
	return p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
		for _, payload := range []string{"mooring", ""} {
			_ = l.socket.raw(maskedFrame(websocket.Fin|websocket.Ping, []byte(payload)))
			_ = l.socket.conn.SetDeadline(time.Now().Add(patience))
			for {
				opcode, got, err := l.socket.message()
				if err != nil {
					return broken("no Pong: %v", err)
				}
				if opcode != websocket.Pong {
					continue
				}
				if string(got) != payload {
					return broken("%q was answered with %q", payload, got)
				}
				break
			}
		}
		return kept("")
	})
}

func probePingFrame(ctx context.Context, p *probe) verdict {
	return p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
		echo := uint64(math.MaxUint64 - 3)
		l.send(p.in.encoder.Ping(wire.Ping{Echo: echo}))
		if !l.until(patience, func() bool { return len(l.pongs) > 0 }) {
			return broken("no PONG; close %d", l.code)
		}
		off := time.Since(time.UnixMilli(l.pongs[0].Time)).Abs()
		return judged(l.pongs[0].Echo == echo && off < time.Hour, "echo %d, a clock %s away", l.pongs[0].Echo, off.Round(time.Second))
	})
}

// probeAgain sends rows again over two more connections, in other groups.
func probeAgain(ctx context.Context, p *probe) verdict {
	boot := p.in.random.Uint32() | 1
	var first uint64
	good := make([]wire.Value, 12)
	for i := range good {
		good[i] = wire.Value{Kind: wire.ValueNumber, Number: float64(i)}
	}
	for _, groups := range [][]int{{12}, {5, 7}, {1, 1, 10}} {
		seen := p.with(ctx, wire.Hello{BootID: boot}, func(l *probeLine) verdict {
			if first == 0 {
				first = l.sent
			}
			l.sent = first
			at := 0
			for _, n := range groups {
				l.again(first+uint64(at), good[at:at+n]...)
				at += n
			}
			p.seq = max(p.seq, l.sent)
			return l.allStored()
		})
		if seen.detail != "" || first == 0 {
			return seen
		}
	}
	return kept("")
}

func probeHint(ctx context.Context, p *probe) verdict {
	boot := p.in.random.Uint32() | 1
	next := uint64(0)
	seen := p.with(ctx, wire.Hello{BootID: boot}, func(l *probeLine) verdict {
		l.rows(3)
		next = l.sent
		return l.allStored()
	})
	if seen.detail != "" {
		return seen
	}
	return p.with(ctx, wire.Hello{BootID: boot}, func(l *probeLine) verdict {
		if !l.welcome.HasNext {
			return notShown("WELCOME had no next, which is optional")
		}
		return judged(l.welcome.Next == next, "next is %d; rows before %d were acknowledged", l.welcome.Next, next)
	})
}

func probeTakeover(ctx context.Context, p *probe) verdict {
	return p.with(ctx, wire.Hello{}, func(older *probeLine) verdict {
		older.rows(1)
		if !older.settled() {
			return older.unsettled()
		}
		return p.with(ctx, wire.Hello{}, func(newer *probeLine) verdict {
			if seen := older.closedWith(wire.CloseReplaced); seen.detail != "" {
				return seen
			}
			newer.rows(1)
			return newer.allStored()
		})
	})
}

func probeSession(ctx context.Context, p *probe) verdict {
	last := int64(-1)
	for range 3 {
		seen := p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
			defer func() { last = l.welcome.Session }()
			return judged(l.welcome.Session > last, "session %d came after %d", l.welcome.Session, last)
		})
		if seen.detail != "" {
			return seen
		}
	}
	return kept("")
}

func probeGoAway(ctx context.Context, p *probe) verdict {
	return p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
		l.rows(1)
		if !l.settled() {
			return l.unsettled()
		}
		l.send(nil) // an empty message: M6
		l.until(2*patience, func() bool { return false })
		return judged(l.goAway == wire.CloseBadFrame && l.code == wire.CloseBadFrame, "GOAWAY %d, close %d", l.goAway, l.code)
	})
}

func probeClose(ctx context.Context, p *probe) verdict {
	return p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
		_ = l.socket.raw(maskedFrame(websocket.Fin|websocket.Close, []byte{0x03, 0xe8})) // 1000
		l.until(patience, func() bool { return false })
		return judged(l.code == 1000, "%d", l.code)
	})
}

// probeHeartbeat says nothing for as long as the server bears it.
func probeHeartbeat(ctx context.Context, p *probe) verdict {
	const hb, tolerance = 5 * time.Second, 5 * time.Second
	return p.with(ctx, wire.Hello{Heartbeat: int(hb / time.Second)}, func(l *probeLine) verdict {
		from, pinged, goAway := time.Now(), time.Duration(0), wire.CloseCode(0)
		_ = l.socket.conn.SetDeadline(from.Add(hb + 10*time.Second + 2*tolerance))
		for {
			opcode, payload, err := l.socket.message()
			after := time.Since(from)
			switch {
			case err != nil && isTimeout(err):
				return broken("it did not close within %s", after.Round(time.Second))
			case err == nil && opcode == websocket.Ping:
				if len(payload) > 0 {
					return broken("a Ping with %d bytes", len(payload))
				}
				if pinged == 0 {
					pinged = after
				}
			case err == nil && opcode == websocket.Binary:
				if notice, err := p.in.decoder.Notice(payload); err == nil && notice.Kind == wire.NoticeGoAway {
					goAway = notice.Code
				}
			case err != nil || opcode == websocket.Close:
				good := goAway == wire.CloseHeartbeat && pinged > 0 && pinged <= hb+tolerance && after >= hb+10*time.Second-time.Second
				if good {
					return kept("pinged after %.1f s, closed after %.1f s", pinged.Seconds(), after.Seconds())
				}
				return broken("pinged after %.1f s, closed after %.1f s, GOAWAY %d", pinged.Seconds(), after.Seconds(), goAway)
			}
		}
	})
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func probeControlRate(ctx context.Context, p *probe) verdict {
	return p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
		const pings = 1000
		var all []byte
		for range pings {
			all = append(all, maskedFrame(websocket.Fin|websocket.Ping, nil)...)
		}
		_ = l.socket.raw(all)
		l.rows(1)
		if l.settled() {
			return notShown("the server bore %d Pings at once; its limit may be configured", pings)
		}
		return l.closedWith(wire.CloseQuota)
	})
}

// probeSlowHeader begins a handshake and says no more.
func probeSlowHeader(ctx context.Context, p *probe) verdict {
	target, err := url.Parse(p.in.run.cfg.URL)
	if err != nil {
		return notShown("%v", err)
	}
	conn, err := dialURL(ctx, target, p.in.run.cfg.TLS)
	if err != nil {
		return notShown("%v", err)
	}
	defer conn.Close()
	began := time.Now()
	_ = conn.SetDeadline(began.Add(firstFrame + patience))
	if _, err := io.WriteString(conn, "GET "+target.RequestURI()+" HTTP/1.1\r\nHost: "); err != nil {
		return notShown("%v", err)
	}
	answer, err := io.ReadAll(conn)
	after := time.Since(began)
	switch {
	case isTimeout(err):
		return broken("it waits for the rest after %s; its limit may be configured", after.Round(time.Second))
	case len(answer) > 0:
		return broken("it answered %q", answer[:min(len(answer), 40)])
	}
	return kept("after %.1f s", after.Seconds())
}
