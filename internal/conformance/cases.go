package conformance

import "fmt"

// Case is one thing a client does, and what must come of it.
type Case struct {
	ID    string // section and number; the section is Autobahn's
	Sends string // by the client, in words
	Asks  string // by RFC 6455 of the server, with the clause
	Must  string // what a Mooring server answers; within what RFC 6455 asks
	run   func(c *Client) error
}

// Run plays the case on a connection that nothing was sent on since WELCOME, and
// says what was not as it must be.
func (c *Case) Run(on *Client) error {
	if err := c.run(on); err != nil {
		return fmt.Errorf("conformance: case %s: %w", c.ID, err)
	}
	return nil
}

// Section is a part of the table.
type Section struct {
	Title string
	About string
	Cases []Case
}

// Sections are all cases. They need a server with a max_frame of 64 KiB and the
// other limits at their defaults.
func Sections() []Section {
	return []Section{framing(), pings(), reservedBits(), opcodes(), fragmentation(), texts(), closing(), codes(), limits()}
}

const echoed = "the echo, once the whole message is in"

// breach is a case that ends with 1002, without any answer before it.
func breach(id, sends, asks string, run func(c *Client)) Case {
	return Case{id, sends, asks, "close 1002", func(c *Client) error {
		run(c)
		return c.closed(1002)
	}}
}

// echo is a case that ends with the echo of the last PING frame.
func echo(id, sends, asks string, run func(c *Client)) Case {
	return Case{id, sends, asks, echoed, func(c *Client) error {
		run(c)
		return c.echoed()
	}}
}

func framing() Section {
	s := Section{Title: "1 Framing", About: "Mooring takes binary messages alone; for text see section 6."}
	for i, size := range []int{125, 126, 127, 128, 65_535, 65_536} {
		s.Cases = append(s.Cases, echo(fmt.Sprintf("1.2.%d", i+2), fmt.Sprintf("a binary message of %d bytes", size),
			"lengths of 7, 16 and 64 bits (§5.2)", func(c *Client) { c.message(c.ping(size)) }))
	}
	s.Cases = append(s.Cases,
		echo("1.2.8", "a binary message of 65,536 bytes, written in pieces of 997", "frames do not depend on segments (§5.2)",
			func(c *Client) {
				c.chop = 997
				c.message(c.ping(65_536))
			}),
		Case{
			"1.2.1", "an empty binary message", "taken (§5.2); what it means is the application's", "close 4200: no frame of the protocol",
			func(c *Client) error {
				c.message(nil)
				return c.closed(4200)
			},
		},
		breach("1.3.1", "a message without a mask", "the server closes, with 1002 at its liking (§5.1)", func(c *Client) {
			c.write([]byte{fin | opBinary, 1, 0x90})
		}),
		echo("1.3.2", "a mask of zeros", "any mask is taken (§5.3)", func(c *Client) {
			ping := c.ping(20)
			c.write(append([]byte{fin | opBinary, 0x80 | byte(len(ping)), 0, 0, 0, 0}, ping...))
		}),
		echo("1.3.3", "a length in more bytes than it needs", "the sender must not (§5.2); what the receiver does is left open",
			func(c *Client) {
				ping := c.ping(20)
				c.write(append([]byte{fin | opBinary, 0x80 | 126, 0, byte(len(ping)), 0, 0, 0, 0}, ping...))
			}),
	)
	return s
}

func pings() Section {
	pong := func(id, sends, payload string, run func(c *Client)) Case {
		return Case{id, sends, "a Pong with the same payload (§5.5.2, §5.5.3)", "that", func(c *Client) error {
			run(c)
			return c.ponged(payload)
		}}
	}
	full := string(make([]byte, 125))
	ten := func(c *Client) {
		var all []byte
		for i := range 10 {
			all = appendFrame(all, fin|opPing, fmt.Append(nil, "payload-", i))
		}
		c.write(all)
	}
	last := func(run func(c *Client)) func(c *Client) error {
		return func(c *Client) error {
			run(c)
			for number := -1; number < 9; {
				_, payload, err := c.next(opPong)
				if err != nil {
					return err
				}
				before := number
				if _, err := fmt.Sscanf(string(payload), "payload-%d", &number); err != nil || number <= before {
					return fmt.Errorf("the Pong %q came after %d", payload, before)
				}
			}
			return nil
		}
	}
	const latest = "Pongs in order; of Pings that came in together the latest alone may be answered (§5.5.3)"
	return Section{Title: "2 Pings and Pongs", About: "Pongs that nobody asked for are as welcome as Pings, up to the rate of PROTOCOL §8.5.", Cases: []Case{
		pong("2.1", "an empty Ping", "", func(c *Client) { c.frame(fin|opPing, nil) }),
		pong("2.2", "a Ping with text", "Hello, server", func(c *Client) { c.frame(fin|opPing, []byte("Hello, server")) }),
		pong("2.3", "a Ping with bytes that are not UTF-8", "\x00\xFF\xFE\xFD", func(c *Client) { c.frame(fin|opPing, []byte("\x00\xFF\xFE\xFD")) }),
		pong("2.4", "a Ping with 125 bytes", full, func(c *Client) { c.frame(fin|opPing, []byte(full)) }),
		breach("2.5", "a Ping with 126 bytes", "control frames hold at most 125 (§5.5)", func(c *Client) { c.frame(fin|opPing, make([]byte, 126)) }),
		pong("2.6", "a Ping with 125 bytes, written byte by byte", full, func(c *Client) {
			c.chop = 1
			c.frame(fin|opPing, []byte(full))
		}),
		echo("2.7", "an empty Pong, then a message", "no answer to the Pong (§5.5.3)", func(c *Client) {
			c.frame(fin|opPong, nil)
			c.message(c.ping(20))
		}),
		echo("2.8", "a Pong with a payload, then a message", "no answer to the Pong (§5.5.3)", func(c *Client) {
			c.frame(fin|opPong, []byte("unasked"))
			c.message(c.ping(20))
		}),
		pong("2.9", "a Pong with a payload, then a Ping with another", "ping", func(c *Client) {
			c.frame(fin|opPong, []byte("unasked"))
			c.frame(fin|opPing, []byte("ping"))
		}),
		{"2.10", "ten Pings at once", latest, "rising, up to the last", last(ten)},
		{"2.11", "ten Pings, written byte by byte", latest, "rising, up to the last", last(func(c *Client) {
			c.chop = 1
			ten(c)
		})},
	}}
}

func reservedBits() Section {
	const asks = "without an extension they are 0, or the connection fails (§5.2)"
	return Section{Title: "3 Reserved bits", About: "No extension is ever agreed on, permessage-deflate neither.", Cases: []Case{
		breach("3.1", "a message with reserved bit 3", asks, func(c *Client) { c.frame(fin|0x10|opBinary, c.ping(20)) }),
		{"3.2", "a good message, then one with bit 2, then a Ping", asks, "the echo of the first, then close 1002", func(c *Client) error {
			c.message(c.ping(20))
			if err := c.echoed(); err != nil {
				return err
			}
			c.frame(fin|0x20|opBinary, c.ping(20))
			c.frame(fin|opPing, nil)
			return c.closed(1002)
		}},
		breach("3.3", "a message with bits 2 and 3", asks, func(c *Client) { c.frame(fin|0x30|opBinary, c.ping(20)) }),
		breach("3.4", "a message with bit 1, as if compressed, byte by byte", asks, func(c *Client) {
			c.chop = 1
			c.frame(fin|0x40|opBinary, c.ping(20))
		}),
		breach("3.5", "a message with bits 1 and 3", asks, func(c *Client) { c.frame(fin|0x50|opBinary, c.ping(20)) }),
		breach("3.6", "a Ping with bits 1 and 2", asks, func(c *Client) { c.frame(fin|0x60|opPing, nil) }),
		breach("3.7", "a Close with all three", asks, func(c *Client) { c.frame(fin|0x70|opClose, nil) }),
	}}
}

func opcodes() Section {
	s := Section{Title: "4 Opcodes", About: "3 to 7 and 11 to 15 are reserved."}
	const asks = "unknown opcodes fail the connection (§5.2)"
	for i, opcode := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		id := fmt.Sprintf("4.%d.%d", i/5+1, i%5+1)
		payload := make([]byte, i%3*7)
		s.Cases = append(s.Cases, Case{
			id, fmt.Sprintf("a good message, then opcode %d with %d bytes, then a Ping", opcode, len(payload)),
			asks, "the echo of the first, then close 1002", func(c *Client) error {
				c.message(c.ping(20))
				if err := c.echoed(); err != nil {
					return err
				}
				c.frame(fin|opcode, payload)
				c.frame(fin|opPing, nil)
				return c.closed(1002)
			},
		})
	}
	return s
}
