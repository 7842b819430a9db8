package conformance

import (
	"encoding/binary"
	"fmt"
)

// closeFrame is a close frame's payload.
func closeFrame(code int, reason string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)
}

func closing() Section {
	reply := func(id, sends, asks string, codes []int, payload []byte) Case {
		must := fmt.Sprintf("close %d", codes[0])
		if codes[0] == 1005 {
			must = "an empty Close"
		}
		return Case{id, sends, asks, must, func(c *Client) error {
			c.frame(fin|opClose, payload)
			return c.closed(codes...)
		}}
	}
	after := func(id, sends string, run func(c *Client)) Case {
		return Case{id, sends, "nothing is looked at after a Close (§1.4, §5.5.1)", "a Close, and nothing else", func(c *Client) error {
			// In one write: once the server has closed, more would be answered with a
			// reset that can overtake its Close.
			run(c)
			return c.closed(1000, 1005)
		}}
	}
	together := func(c *Client, frames ...[]byte) {
		var all []byte
		for _, frame := range frames {
			all = append(all, frame...)
		}
		c.write(all)
	}
	normal := appendFrame(nil, fin|opClose, closeFrame(1000, ""))
	return Section{Title: "7 Closing", Cases: []Case{
		{"7.1.1", "a message, then Close 1000", "the Close is answered with one (§5.5.1)", "the echo, then close 1000", func(c *Client) error {
			c.message(c.ping(20))
			if err := c.echoed(); err != nil {
				return err
			}
			c.write(normal)
			return c.closed(1000)
		}},
		after("7.1.2", "Close twice", func(c *Client) { together(c, normal, normal) }),
		after("7.1.3", "Close, then a Ping", func(c *Client) { together(c, normal, appendFrame(nil, fin|opPing, nil)) }),
		after("7.1.4", "Close, then a message", func(c *Client) { together(c, normal, appendFrame(nil, fin|opBinary, c.ping(20))) }),
		after("7.1.5", "half a message, Close, the other half", func(c *Client) {
			message := c.ping(60)
			together(c, appendFrame(nil, opBinary, message[:30]), normal, appendFrame(nil, fin|opContinuation, message[30:]))
		}),
		{"7.1.6", "a message of 64 KiB, Close, a Ping", "what came before is handled (§7.1.2)", "the echo, then close 1000", func(c *Client) error {
			together(c, appendFrame(nil, fin|opBinary, c.ping(64<<10)), normal, appendFrame(nil, fin|opPing, nil))
			if err := c.echoed(); err != nil {
				return err
			}
			return c.closed(1000)
		}},
		reply("7.3.1", "an empty Close", "answered (§5.5.1)", []int{1005}, nil),
		reply("7.3.2", "a Close with one byte", "a payload begins with two bytes of code (§5.5.1)", []int{1002}, []byte{3}),
		reply("7.3.3", "Close 1000 without a reason", "answered, as a rule with the same code (§5.5.1)", []int{1000}, closeFrame(1000, "")),
		reply("7.3.4", "Close 1000 with a reason", "answered (§5.5.1)", []int{1000}, closeFrame(1000, "so long")),
		reply("7.3.5", "Close 1000 with a reason of 123 bytes", "answered (§5.5.1)", []int{1000}, closeFrame(1000, string(make([]byte, 123)))),
		reply("7.3.6", "Close 1000 with a reason of 124 bytes", "control frames hold at most 125 bytes (§5.5)", []int{1002}, closeFrame(1000, string(make([]byte, 124)))),
		reply("7.5.1", "Close 1000 with a reason that is not UTF-8", "1007 (§8.1)", []int{1007}, closeFrame(1000, "\xCE\xBA\xED\xA0\x80")),
		{"7.6.1", "the connection's end without a Close", "the server cleans up (§7.1.7)", "the end of the stream", func(c *Client) error {
			half, ok := c.conn.(interface{ CloseWrite() error })
			if !ok {
				return nil
			}
			if err := half.CloseWrite(); err != nil {
				return err
			}
			return c.ended()
		}},
	}}
}

func codes() Section {
	s := Section{Title: "7.7 to 7.13 Close codes", About: "The answer to a Close may have the same code or a plain 1000."}
	for i, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999} {
		s.Cases = append(s.Cases, Case{
			fmt.Sprintf("7.7.%d", i+1), fmt.Sprintf("Close %d", code), "a code that may be sent (§7.4): answered (§5.5.1)",
			fmt.Sprintf("close %d or 1000", code), func(c *Client) error {
				c.frame(fin|opClose, closeFrame(code, ""))
				return c.closed(code, 1000)
			},
		})
	}
	for i, code := range []int{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535} {
		id := fmt.Sprintf("7.9.%d", i+1)
		if code >= 5000 {
			id = fmt.Sprintf("7.13.%d", i-9)
		}
		s.Cases = append(s.Cases, breach(id, fmt.Sprintf("Close %d", code), "a code that is never sent, or not yet given out (§7.4)", func(c *Client) {
			c.frame(fin|opClose, closeFrame(code, ""))
		}))
	}
	return s
}
