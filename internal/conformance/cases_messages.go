package conformance

import (
	"errors"
	"fmt"

	"mooring/wire"
)

func fragmentation() Section {
	const (
		whole   = "control frames are not fragmented (§5.5)"
		nothing = "a continuation continues something (§5.4)"
		between = "control frames may come between fragments, and are answered there (§5.4)"
	)
	pinged := func(id, sends string, chop, size int, pings ...string) Case {
		return Case{id, sends, between, "the Pong first, then the echo", func(c *Client) error {
			c.chop = chop
			message := c.ping(60)
			first := byte(opBinary)
			for _, ping := range pings {
				c.frame(first, message[:size])
				c.frame(fin|opPing, []byte(ping))
				if err := c.ponged(ping); err != nil {
					return err
				}
				message, first = message[size:], opContinuation
			}
			c.frame(fin|opContinuation, message)
			return c.echoed()
		}}
	}
	return Section{Title: "5 Fragmentation", About: "The server takes fragments, up to 1,024 a message (PROTOCOL §8.5), and sends none.", Cases: []Case{
		breach("5.1", "a Ping in two fragments", whole, func(c *Client) {
			c.frame(opPing, []byte("a"))
			c.frame(fin|opContinuation, []byte("b"))
		}),
		breach("5.2", "a Pong in two fragments", whole, func(c *Client) {
			c.frame(opPong, []byte("a"))
			c.frame(fin|opContinuation, []byte("b"))
		}),
		echo("5.3", "a message in two fragments", "put together (§5.4)", func(c *Client) { c.fragments(c.ping(60), 30) }),
		echo("5.4", "a message in two fragments, in pieces of 7 bytes", "put together (§5.4)", func(c *Client) {
			c.chop = 7
			c.fragments(c.ping(60), 30)
		}),
		echo("5.5", "a message in two fragments, byte by byte", "put together (§5.4)", func(c *Client) {
			c.chop = 1
			c.fragments(c.ping(60), 30)
		}),
		pinged("5.6", "a Ping between two fragments", 0, 30, "in between"),
		pinged("5.7", "a Ping between two fragments, in pieces of 7 bytes", 7, 30, "in between"),
		pinged("5.8", "a Ping between two fragments, byte by byte", 1, 30, "in between"),
		breach("5.9", "a last continuation of nothing, then a message", nothing, func(c *Client) {
			c.frame(fin|opContinuation, []byte{1})
			c.message(c.ping(20))
		}),
		breach("5.10", "an empty last continuation of nothing", nothing, func(c *Client) { c.frame(fin|opContinuation, nil) }),
		breach("5.11", "a last continuation of nothing, byte by byte", nothing, func(c *Client) {
			c.chop = 1
			c.frame(fin|opContinuation, []byte{1, 2, 3})
		}),
		breach("5.12", "a continuation of nothing that is not the last, then a message", nothing, func(c *Client) {
			c.frame(opContinuation, []byte{1})
			c.message(c.ping(20))
		}),
		breach("5.13", "an empty continuation of nothing that is not the last", nothing, func(c *Client) { c.frame(opContinuation, nil) }),
		breach("5.14", "a continuation of nothing, not the last, byte by byte", nothing, func(c *Client) {
			c.chop = 1
			c.frame(opContinuation, []byte{1, 2, 3})
		}),
		{"5.15", "a message in two fragments, then a continuation of nothing", nothing, "the echo, then close 1002", func(c *Client) error {
			c.fragments(c.ping(60), 30)
			if err := c.echoed(); err != nil {
				return err
			}
			c.frame(opContinuation, []byte{1})
			return c.closed(1002)
		}},
		breach("5.18", "a message that begins within another one", "fragments of messages are not mixed (§5.4)", func(c *Client) {
			c.frame(opBinary, []byte{1})
			c.frame(opBinary, []byte{2})
		}),
		breach("5.18.1", "a whole message within another one", "fragments of messages are not mixed (§5.4)", func(c *Client) {
			c.frame(opBinary, []byte{1})
			c.message(c.ping(20))
		}),
		pinged("5.19", "Pings between five fragments", 0, 12, "first", "second", "third", "fourth"),
		pinged("5.20", "Pings between five fragments, byte by byte", 1, 12, "first", "second", "third", "fourth"),
		echo("5.21", "a message in fragments of one byte, some of them empty", "fragments may be empty (§5.2, §5.4)", func(c *Client) {
			c.frame(opBinary, nil)
			for _, b := range c.ping(60) {
				c.frame(opContinuation, []byte{b})
				c.frame(opContinuation, nil)
			}
			c.frame(fin|opContinuation, nil)
		}),
		{"5.22", "empty continuation frames without end", "no limit, and no duty to bear it (§10.4)", "close 4202, at the 1,025th", func(c *Client) error {
			c.frame(opBinary, nil)
			for range 2000 {
				c.frame(opContinuation, nil)
			}
			return c.closed(int(wire.CloseTooLarge))
		}},
	}}
}

func texts() Section {
	const asks = "text must be UTF-8, or the connection fails with 1007 (§8.1); a server that takes no text may close with 1003 (§7.4.1)"
	text := func(id, sends string, run func(c *Client)) Case {
		return Case{id, sends, asks, "close 4204", func(c *Client) error {
			run(c)
			return c.closed(int(wire.CloseText))
		}}
	}
	return Section{
		Title: "6 UTF-8",
		About: "Mooring takes binary messages alone. Every text message, whatever it holds, is closed with 4204 TEXT, a private code " +
			"(RFC 6455 §7.4.2) that tells the firmware's author more than 1003 does. So the many cases of valid and invalid UTF-8 " +
			"come down to these; a reason in a close frame, the other place for text, is in section 7.",
		Cases: []Case{
			text("6.1.1", "an empty text", func(c *Client) { c.frame(fin|opText, nil) }),
			text("6.1.2", "an empty text in three fragments", func(c *Client) {
				c.frame(opText, nil)
				c.frame(opContinuation, nil)
				c.frame(fin|opContinuation, nil)
			}),
			text("6.2.1", "valid UTF-8", func(c *Client) { c.frame(fin|opText, []byte("κόσμε")) }),
			text("6.2.2", "valid UTF-8, cut within a character", func(c *Client) {
				c.frame(opText, []byte("\xCE"))
				c.frame(fin|opContinuation, []byte("\xBA"))
			}),
			text("6.3.1", "invalid UTF-8", func(c *Client) { c.frame(fin|opText, []byte("\xCE\xBA\xED\xA0\x80")) }),
			text("6.3.2", "invalid UTF-8, byte by byte", func(c *Client) {
				c.chop = 1
				c.frame(fin|opText, []byte("\xF4\x90\x80\x80"))
			}),
			text("6.4.1", "text whose second fragment is invalid UTF-8", func(c *Client) {
				c.frame(opText, []byte("valid"))
				c.frame(fin|opContinuation, []byte("\xFF"))
			}),
		},
	}
}

func limits() Section {
	s := Section{Title: "9 Limits and throughput", About: "Autobahn goes up to 16 MiB; here the largest message is max_frame, 64 KiB at most. " +
		"Whether a message was put together rightly is what counts, its speed is in PERFORMANCE.md."}
	for i, size := range []int{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10} {
		s.Cases = append(s.Cases, echo(fmt.Sprintf("9.2.%d", i+1), fmt.Sprintf("a message of %d bytes", size), "taken (§5.2)",
			func(c *Client) { c.message(c.ping(size)) }))
	}
	for i, size := range []int{64, 256, 1 << 10, 4 << 10, 16 << 10} {
		s.Cases = append(s.Cases, echo(fmt.Sprintf("9.4.%d", i+1), fmt.Sprintf("a message of 64 KiB in fragments of %d bytes", size), "put together (§5.4)",
			func(c *Client) { c.fragments(c.ping(64<<10), size) }))
	}
	for i, size := range []int{64, 128, 256, 512, 1024, 2048} {
		s.Cases = append(s.Cases, echo(fmt.Sprintf("9.6.%d", i+1), fmt.Sprintf("a message of 64 KiB, written in pieces of %d bytes", size),
			"frames do not depend on segments (§5.2)", func(c *Client) {
				c.chop = size
				c.message(c.ping(64 << 10))
			}))
	}
	for i, rows := range []int{1, 10, 100, 1000} {
		s.Cases = append(s.Cases, Case{
			fmt.Sprintf("9.8.%d", i+1), fmt.Sprintf("1,000 DATA frames of %d rows, each after the ACK of the one before", rows),
			"messages in order (§5.4)", "1,000 ACKs, each of its frame", func(c *Client) error { return c.rows(1000, rows) },
		})
	}
	s.Cases = append(s.Cases, Case{"9.9.1", "a message of one byte more than max_frame", "may be refused with 1009 (§7.4.1)", "close 4202", func(c *Client) error {
		c.message(c.ping(64<<10 + 1))
		return c.closed(int(wire.CloseTooLarge))
	}}, Case{"9.9.2", "one byte more than max_frame, in fragments of 1 KiB", "may be refused with 1009 (§7.4.1)", "close 4202", func(c *Client) error {
		c.fragments(c.ping(64<<10+1), 1<<10)
		return c.closed(int(wire.CloseTooLarge))
	}}, Case{"9.9.3", "a length with its top bit set", "it must be 0 (§5.2)", "close 4200", func(c *Client) error {
		c.write([]byte{fin | opBinary, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0})
		return c.closed(int(wire.CloseBadFrame))
	}})
	return s
}

// rows sends DATA frames of n rows, one after the other's ACK.
func (c *Client) rows(frames, n int) error {
	encoder := wire.NewEncoder()
	c.message(encoder.Layout(&wire.Layout{Number: 1, Channels: []wire.Channel{{Name: "n"}}}))
	rows := make([]wire.Row, n)
	for i := range frames {
		seq := uint64(i * n)
		for j := range rows {
			rows[j] = wire.Row{Seq: seq + uint64(j), Values: []wire.Value{{Kind: wire.ValueInt, Int: int64(j)}}}
		}
		frame, err := encoder.Data(&wire.Data{Seq: seq, Layout: 1, ServerTime: true, Rows: rows})
		if err != nil {
			return err
		}
		c.message(frame)
		_, payload, err := c.next(opBinary)
		if err != nil {
			return err
		}
		ack, err := c.decoder.Ack(payload)
		if err != nil {
			return fmt.Errorf("expected ACK: %w", err)
		}
		if ack.Next != seq+uint64(n) || ack.Rejected > 0 {
			return errors.New("the ACK is of another frame")
		}
	}
	return nil
}
