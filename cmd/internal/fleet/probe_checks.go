package fleet

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"mooring/cmd/internal/conform"
	"mooring/wire"
)

// probeChecks are what a server does for devices that do right, and the answers
// that depend on more than one message.
func probeChecks() []check {
	return []check{
		{Rule: conform.Rule{ID: "subprotocol", Clause: "§2.2", Text: "selects mooring.v1 when it is offered, and none when none is"}, do: probeSubprotocol},
		{Rule: conform.Rule{ID: "token-subprotocol", Clause: "§2.3", Text: "takes the token as an offered subprotocol and never selects that"}, do: probeTokenSubprotocol},
		{Rule: conform.Rule{ID: "welcome-fields", Clause: "§6.1", Text: "says in WELCOME what holds, within the ranges"}, do: probeWelcome},
		{Rule: conform.Rule{ID: "heartbeat-granted", Clause: "§4.1, M21", Text: "grants the heartbeat wished for, 5 s to 900 s"}, do: probeGranted},
		{Rule: conform.Rule{ID: "hello-later-fields", Clause: "§3.2", Text: "ignores elements of HELLO behind those it knows"}, do: probeLongHello},
		{Rule: conform.Rule{ID: "without-hello", Clause: "§4.1", Text: "takes DATA as the first frame"}, do: probeWithoutHello},
		{Rule: conform.Rule{ID: "before-welcome", Clause: "§2.7", Text: "takes 4 DATA frames before WELCOME"}, do: probeEarly},
		{Rule: conform.Rule{ID: "ack", Clause: "§6.2", Text: "acknowledges all rows that it took"}, do: probeAck},
		{Rule: conform.Rule{ID: "window-borne", Clause: "§8.2", Text: "bears as many DATA frames as its window"}, do: probeWindow},
		{Rule: conform.Rule{ID: "window-exceeded", Clause: "§8.2, D6", Text: "closes with 4102 beyond its window"}, do: probeBeyondWindow},
		{Rule: conform.Rule{ID: "names", Clause: "§5.3", Text: "takes channel names in the place of a layout's number"}, do: probeNames},
		{Rule: conform.Rule{ID: "server-time", Clause: "§5.5.4", Text: "takes rows without t0"}, do: probeServerTime},
		{Rule: conform.Rule{ID: "packed", Clause: "§5.6, §5.10", Text: "takes regular rows, and packed ones of every type"}, do: probePacked},
		{Rule: conform.Rule{ID: "wide-headers", Clause: "§3.3", Text: "takes headers and integers of fixed width"}, do: probeWide},
		{Rule: conform.Rule{ID: "refused-alone", Clause: "§1.3, §6.2.2", Text: "refuses a value by channel and code, consecutive rows as one entry, and nothing else"}, do: probeRefusedAlone},
		{Rule: conform.Rule{ID: "many-refusals", Clause: "§6.2.3, §2.6", Text: "counts all refusals, lists at most 32 and what max_rx holds"}, do: probeManyRefusals},
		{Rule: conform.Rule{ID: "layout-again", Clause: "§4.2.2, L14", Text: "a number declared again stands for the new content"}, do: probeLayoutAgain},
		{Rule: conform.Rule{ID: "layouts-at-most", Clause: "§4.2.3, L13", Text: "takes 16 layouts, refuses the 17th with QUOTA"}, do: probeLayouts},
		{Rule: conform.Rule{ID: "names-at-most", Clause: "§5.3, D12", Text: "counts lists of names among the 16 layouts, refuses the rows of one too many with QUOTA"}, do: probeManyNames},
		{Rule: conform.Rule{ID: "max-rx-at-least", Clause: "§4.1, M22", Text: "closes with 4200 if max_rx is below 256"}, do: probeSmallReceive},
		{Rule: conform.Rule{ID: "time-to-ask", Clause: "§10, H15", Text: "hangs up without an answer on a handshake whose header is not complete within 10 s"}, do: probeSlowHeader, beside: true},
		{Rule: conform.Rule{ID: "fragments", Clause: "§2.6", Text: "takes a message in fragments, with a Ping between"}, do: probeFragments},
		{Rule: conform.Rule{ID: "fragments-at-most", Clause: "§8.5, M24", Text: "closes with 4202 beyond 1,024 fragments"}, do: probeManyFragments},
		{Rule: conform.Rule{ID: "ping", Clause: "§8.4.3", Text: "answers a WebSocket Ping with the same payload"}, do: probePing},
		{Rule: conform.Rule{ID: "ping-frame", Clause: "§4.5, §6.5", Text: "answers PING with its echo and the time"}, do: probePingFrame},
		{Rule: conform.Rule{ID: "again", Clause: "§1.2, §8.3", Text: "acknowledges rows that come again, in any grouping, over another connection"}, do: probeAgain},
		{Rule: conform.Rule{ID: "hint", Clause: "§6.1", Text: "says in WELCOME.next what is settled of this boot", Should: true}, do: probeHint},
		{Rule: conform.Rule{ID: "takeover", Clause: "§2.5", Text: "closes an older connection of the device with 4101"}, do: probeTakeover},
		{Rule: conform.Rule{ID: "session", Clause: "§6.1", Text: "numbers sessions so that they rise"}, do: probeSession},
		{Rule: conform.Rule{ID: "goaway-first", Clause: "§9.3, §11", Text: "announces a close by GOAWAY with the same code"}, do: probeGoAway},
		{Rule: conform.Rule{ID: "close-answered", Clause: "RFC 6455 §5.5.1", Text: "answers a close frame"}, do: probeClose},
		{Rule: conform.Rule{ID: "heartbeat", Clause: "§8.4.1", Text: "sends an empty Ping after hb, closes with 4002 after 1.5·hb, at least hb + 10 s"}, do: probeHeartbeat},
		{Rule: conform.Rule{ID: "control-rate", Clause: "§8.5, M25", Text: "closes with 4103 beyond 400 frames other than DATA at once"}, do: probeControlRate},
	}
}

func probeSubprotocol(ctx context.Context, p *probe) verdict {
	for _, offered := range []string{wire.Subprotocol, ""} {
		line, status, err := p.dial(ctx, func(h *handshake) {
			h.header.Del("Sec-Websocket-Protocol")
			if offered != "" {
				h.header.Set("Sec-Websocket-Protocol", offered)
			}
		})
		if err != nil || line == nil {
			return notShown("HTTP %d, %v", status, err)
		}
		line.close()
		if selected := line.header.Get("Sec-Websocket-Protocol"); selected != offered {
			return broken("offered %q, selected %q", offered, selected)
		}
	}
	return kept("")
}

func probeTokenSubprotocol(ctx context.Context, p *probe) verdict {
	line, status, err := p.dial(ctx, func(h *handshake) {
		h.header.Del("Authorization")
		h.header.Set("Sec-Websocket-Protocol", wire.TokenSubprotocolPrefix+p.device.token.Token+", "+wire.Subprotocol)
	})
	if err != nil {
		return notShown("%v", err)
	}
	if line == nil {
		return broken("HTTP %d", status)
	}
	line.close()
	selected := line.header.Values("Sec-Websocket-Protocol")
	return judged(slices.Equal(selected, []string{wire.Subprotocol}), "selected %d others than mooring.v1", len(selected))
}

func probeWelcome(ctx context.Context, p *probe) verdict {
	return p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
		w := l.welcome
		off := time.Since(time.UnixMilli(w.Time)).Abs()
		switch {
		case w.Heartbeat < 5 || w.Heartbeat > 900:
			return broken("hb is %d", w.Heartbeat)
		case w.MaxFrame < 256 || w.MaxFrame > wire.MaxFrameBytes:
			return broken("max_frame is %d", w.MaxFrame)
		case w.Window < 0 || w.Window > math.MaxUint16 || w.Spread < 0 || w.Spread > math.MaxUint16:
			return broken("window %d, spread %d", w.Window, w.Spread)
		case off > time.Hour:
			return broken("its clock is %s away from this one", off.Round(time.Second))
		}
		return kept("hb %d s, max_frame %d, window %d, spread %d s", w.Heartbeat, w.MaxFrame, w.Window, w.Spread)
	})
}

func probeGranted(ctx context.Context, p *probe) verdict {
	for wished, granted := range map[int]int{1: 5, 60: 60, 60000: 900} {
		if seen := p.with(ctx, wire.Hello{Heartbeat: wished}, func(l *probeLine) verdict {
			return judged(l.welcome.Heartbeat == granted, "wished for %d s, granted %d s", wished, l.welcome.Heartbeat)
		}); seen.state != conform.Kept {
			return seen
		}
	}
	return kept("")
}

// bare connects and sends a message first, in the place of HELLO.
func (p *probe) bare(ctx context.Context, first []byte, do func(l *probeLine) verdict) verdict {
	line, status, err := p.dial(ctx, nil)
	if err != nil || line == nil {
		return notShown("HTTP %d, %v", status, err)
	}
	defer line.close()
	line.send(first)
	return do(line)
}

func probeLongHello(ctx context.Context, p *probe) verdict {
	hello := packArray(packInt(1), packInt(77), packNil, packNil, packNil, packNil, packString("later"), packArray(packInt(1)))
	return p.bare(ctx, hello, func(l *probeLine) verdict {
		return judged(l.until(patience, func() bool { return l.greeted }), "no WELCOME; close %d", l.code)
	})
}

func probeWithoutHello(ctx context.Context, p *probe) verdict {
	frame := packArray(packInt(3), packInt(int64(p.seq)), packInt(1), packInt(time.Now().UnixMilli()),
		packArray(packString("number")), packInt(0), packArray(packInt(0), packInt(1)))
	return p.bare(ctx, frame, func(l *probeLine) verdict {
		l.sent++
		p.seq = l.sent
		return l.allStored()
	})
}

func probeEarly(ctx context.Context, p *probe) verdict {
	return p.bare(ctx, p.in.encoder.Hello(wire.Hello{BootID: 5}), func(l *probeLine) verdict {
		l.send(p.in.encoder.Layout(&wire.Layout{Number: 1, Name: probeLayout, Channels: probeChannels()}))
		for range 4 {
			l.rows(1)
		}
		return l.allStored()
	})
}

func probeAck(ctx context.Context, p *probe) verdict {
	return p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
		for range 5 {
			l.rows(7)
			if seen := l.allStored(); seen.state != conform.Kept {
				return seen
			}
		}
		l.sent += 10 // a gap
		l.rows(1)
		return l.allStored()
	})
}

func probeWindow(ctx context.Context, p *probe) verdict {
	return p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
		for range max(l.welcome.Window, 4) {
			l.rows(1)
		}
		return l.allStored()
	})
}

func probeBeyondWindow(ctx context.Context, p *probe) verdict {
	return p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
		const frames = 2000
		var all []byte
		for i := range uint64(frames) {
			at := inputPlace{seq: int64(l.sent + i), time: time.Now().UnixMilli()}
			all = append(all, binaryMessage(rowOf(at, packInt(1), packNil))...)
		}
		l.sent += frames
		p.seq = l.sent
		_ = l.socket.raw(all)
		if l.settled() {
			return notShown("%d frames at once were acknowledged so soon that the window of %d was never exceeded", frames, l.welcome.Window)
		}
		return judged(l.code == wire.CloseWindow || l.goAway == wire.CloseWindow, "close %d, GOAWAY %d", l.code, l.goAway)
	})
}

func probeNames(ctx context.Context, p *probe) verdict {
	return p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
		names := packArray(packString("number"), packString("door"), packString("state"))
		for _, vals := range [][]byte{
			packArray(packInt(0), packNil, packTrue, packNil, packInt(-3), packFloat(21.5), packNil, packString("on")),
			packArray(packInt(0), packNil, packNil, packNil, packInt(5), packInt(4), packTrue, packString("")),
		} {
			l.send(packArray(packInt(3), packInt(int64(l.sent)), packInt(2), packInt(time.Now().UnixMilli()), names, packNil, vals))
			l.sent += 2
		}
		p.seq = l.sent
		return l.allStored()
	})
}

func probeServerTime(ctx context.Context, p *probe) verdict {
	return p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
		l.send(packArray(packInt(3), packInt(int64(l.sent)), packInt(1), packNil, packInt(1), packNil, packArray(packInt(0), packInt(1), packNil)))
		l.sent++
		p.seq = l.sent
		return l.allStored()
	})
}

func probePacked(ctx context.Context, p *probe) verdict {
	return p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
		l.send(p.in.encoder.Layout(&wire.Layout{Number: 2, Name: probeLayout + "-packed", Channels: []wire.Channel{{Name: "number", Exp10: -1}}}))
		for _, packing := range []wire.Packing{wire.PackNone, wire.PackInt16, wire.PackInt32, wire.PackFloat32} {
			data := wire.Data{Seq: l.sent, Layout: 2, Step: 1000, Packing: packing}
			for i := range 3 {
				value := wire.Value{Kind: wire.ValueInt, Int: int64(i)}
				if packing == wire.PackFloat32 {
					value = wire.Value{Kind: wire.ValueFloat32, Number: float64(i)}
				}
				data.Rows = append(data.Rows, wire.Row{Time: time.Now().UnixMilli()*1000 + int64(i)*1000, Values: []wire.Value{value}})
			}
			frame, err := p.in.encoder.Data(&data)
			if err != nil {
				return notShown("%v", err)
			}
			l.send(frame)
			l.sent += 3
		}
		p.seq = l.sent
		return l.allStored()
	})
}

func probeWide(ctx context.Context, p *probe) verdict {
	return p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
		frame := []byte{0xdc, 0, 7, 0xd1, 0, 3, 0xcf}
		frame = binary.BigEndian.AppendUint64(frame, l.sent)
		frame = append(frame, 0xd2, 0, 0, 0, 1, 0xd3)
		frame = binary.BigEndian.AppendUint64(frame, uint64(time.Now().UnixMilli()))
		frame = append(frame, 0xcd, 0, 1, 0xd2, 0, 0, 0, 0, 0xdc, 0, 3, 0xd3)
		frame = append(frame, bytes.Repeat([]byte{0}, 8)...)  // dt
		frame = append(frame, 0xd1, 0, 0xd7, 0xda, 0, 1, 'x') // 215, "x"
		l.send(frame)
		l.sent++
		p.seq = l.sent
		return l.allStored()
	})
}

// probeLayouts declares 17 layouts, the 17th of which is one too many.
func probeLayouts(ctx context.Context, p *probe) verdict {
	return p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
		for number := range uint32(16) {
			l.send(p.in.encoder.Layout(&wire.Layout{Number: number + 2, Name: probeLayout, Channels: probeChannels()}))
		}
		l.until(patience, func() bool { return len(l.notices) > 0 })
		l.until(200*time.Millisecond, func() bool { return len(l.notices) > 1 })
		if len(l.notices) != 1 {
			return broken("%d notices; close %d", len(l.notices), l.code)
		}
		n := l.notices[0]
		return judged(n.Kind == wire.NoticeLayoutRejected && n.Layout == 17 && n.Reason == wire.CodeQuota,
			"notice %d: layout %d, code %s", n.Kind, n.Layout, n.Reason)
	})
}

func probeLayoutAgain(ctx context.Context, p *probe) verdict {
	return p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
		l.rows(1)
		l.send(p.in.encoder.Layout(&wire.Layout{Number: 1, Name: probeLayout + "-text", Channels: []wire.Channel{{Name: "text", Kind: wire.KindText}}}))
		l.send(packArray(packInt(3), packInt(int64(l.sent)), packInt(1), packInt(time.Now().UnixMilli()), packInt(1), packNil, packArray(packInt(0), packString("x"))))
		l.sent++
		p.seq = l.sent
		return l.allStored()
	})
}

// probeManyNames fills the layouts, then sends rows by names.
func probeManyNames(ctx context.Context, p *probe) verdict {
	return p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
		for number := range uint32(15) {
			l.send(p.in.encoder.Layout(&wire.Layout{Number: number + 2, Name: probeLayout, Channels: probeChannels()}))
		}
		seq := l.sent
		l.send(packArray(packInt(3), packInt(int64(seq)), packInt(1), packInt(time.Now().UnixMilli()), packArray(packString("one-too-many")), packNil, packArray(packInt(0), packInt(1))))
		l.sent++
		p.seq = l.sent
		if !l.settled() {
			return l.unsettled()
		}
		list, _ := l.rejects()
		return judged(slices.Equal(list, []wire.Reject{{Seq: seq, N: 1, Channel: wire.WholeRow, Code: wire.CodeQuota}}), "refused: %v", list)
	})
}

func probeSmallReceive(ctx context.Context, p *probe) verdict {
	hello := packArray(packInt(1), packInt(77), packNil, packInt(255))
	return p.bare(ctx, hello, func(l *probeLine) verdict { return l.closedWith(wire.CloseBadFrame) })
}
