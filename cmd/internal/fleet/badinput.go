package fleet

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/http"
	"strings"

	"mooring/cmd/internal/websocket"
	"mooring/wire"
)

// reaction is what the protocol states as answer to a bad input. One of its
// first fields is set, or none: the input is ignored.
type reaction struct {
	status   int            // HTTP status of the handshake
	close    wire.CloseCode // close, announced by a GOAWAY
	rows     wire.Code      // refusal of the row, or
	value    wire.Code      // of one value in it
	layout   wire.Code      // LAYOUT_REJECTED
	channel  int            // of value and layout
	needed   bool           // NEED_LAYOUT as well
	accepted bool           // the row is stored, without a reading
}

// badInput is a line of PROTOCOL §11.
type badInput struct {
	line string // of the table
	text string
	want reaction
	// handshake spoils the request.
	handshake func(h *handshake)
	// bytes are sent after WELCOME and a LAYOUT with the number 1.
	bytes func(at inputPlace) []byte
	// mute: nothing is sent at all, not even HELLO.
	mute bool
}

// inputPlace is what inputs are made of: the next row's number, a good time in
// ms, and the largest message.
type inputPlace struct {
	seq      int64
	time     int64
	maxFrame int
}

// intruderLayout is the layout of rows that bad inputs leave in the database.
// All their readings are refused or missing.
const intruderLayout = "fleet-intruder"

// Channels of the intruders' layout.
const (
	intruderNumber = iota
	intruderBool
	intruderText
)

func intruderChannels() []wire.Channel {
	return []wire.Channel{{Name: "number"}, {Name: "bool", Kind: wire.KindBool}, {Name: "text", Kind: wire.KindText}}
}

// binaryMessage makes a message of a frame.
func binaryMessage(frame []byte) []byte { return maskedFrame(websocket.Fin|websocket.Binary, frame) }

// dataFrame is a DATA frame of the intruders' layout with these fields behind
// seq and n.
func dataFrame(at inputPlace, fields ...[]byte) []byte {
	return packArray(append([][]byte{packInt(3), packInt(at.seq), packInt(1)}, fields...)...)
}

// rowOf is a DATA frame of one row with these values.
func rowOf(at inputPlace, values ...[]byte) []byte {
	row := packArray(append([][]byte{packInt(0)}, values...)...)
	return dataFrame(at, packInt(at.time), packInt(1), packNil, row)
}

// badInputs is PROTOCOL §11, as far as a device can do it without the database's
// or the operator's help.
func badInputs() []badInput {
	inputs := append(badHandshakes(), badMessages()...)
	inputs = append(inputs, badLayouts()...)
	inputs = append(inputs, badData()...)
	return append(inputs, badValues()...)
}

func badHandshakes() []badInput {
	line := func(line, text string, status int, spoil func(h *handshake)) badInput {
		return badInput{line: line, text: text, want: reaction{status: status}, handshake: spoil}
	}
	set := func(key, value string) func(h *handshake) {
		return func(h *handshake) { h.header.Set(key, value) }
	}
	remove := func(key string) func(h *handshake) { return func(h *handshake) { h.header.Del(key) } }
	return []badInput{
		line("H1", "no credential", http.StatusUnauthorized, remove("Authorization")),
		line("H1", "an empty credential", http.StatusUnauthorized, set("Authorization", "Bearer ")),
		line("H2", "wrong token", http.StatusUnauthorized, set("Authorization", "Bearer wrong")),
		line("H2", "token over 256 bytes", http.StatusUnauthorized, set("Authorization", "Bearer "+strings.Repeat("x", 300))),
		line("H2", "another scheme", http.StatusUnauthorized, set("Authorization", "Digest username=x")),
		line("H4", "Basic that is not base64", http.StatusBadRequest, set("Authorization", "Basic ???")),
		line("H5", "two credentials", http.StatusBadRequest,
			set("Sec-Websocket-Protocol", wire.Subprotocol+", "+wire.TokenSubprotocolPrefix+"x")),
		line("H6", "other subprotocols", http.StatusBadRequest, set("Sec-Websocket-Protocol", "mqtt")),
		line("H7", "no upgrade", http.StatusUpgradeRequired, remove("Upgrade")),
		line("H8", "another WebSocket version", http.StatusUpgradeRequired, set("Sec-Websocket-Version", "8")),
		line("H9", "a key that is not base64", http.StatusBadRequest, set("Sec-Websocket-Key", "?")),
		line("H10", "another method", http.StatusMethodNotAllowed, func(h *handshake) { h.method = http.MethodPost }),
		line("H9", "a key of 8 bytes", http.StatusBadRequest, set("Sec-Websocket-Key", "AAAAAAAAAAA=")),
		line("H14", "a body", http.StatusBadRequest, func(h *handshake) {
			h.header.Set("Content-Length", "1")
			h.body = "x"
		}),
		line("H16", "two keys", http.StatusBadRequest, func(h *handshake) { h.header.Add("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZQ==") }),
		line("H16", "two versions", http.StatusBadRequest, func(h *handshake) { h.header.Add("Sec-Websocket-Version", "13") }),
		line("H11", "two origins", http.StatusForbidden, func(h *handshake) {
			h.header.Add("Origin", "https://elsewhere.example")
			h.header.Add("Origin", "https://elsewhere.example")
		}),
		line("H11", "a page of another origin", http.StatusForbidden, set("Origin", "https://elsewhere.example")),
	}
}

func badMessages() []badInput {
	raw := func(line, text string, code wire.CloseCode, bytes ...byte) badInput {
		return badInput{line: line, text: text, want: reaction{close: code}, bytes: func(inputPlace) []byte { return bytes }}
	}
	frame := func(line, text string, code wire.CloseCode, frame ...byte) badInput {
		return raw(line, text, code, binaryMessage(frame)...)
	}
	zeros := func(at inputPlace) []byte { return make([]byte, at.maxFrame/2+1) }
	return []badInput{
		{line: "M1", text: "no frame for 10 s", want: reaction{close: wire.CloseHeartbeat}, mute: true},
		raw("M2", "a text message", wire.CloseText, maskedFrame(websocket.Fin|websocket.Text, []byte("hello"))...),
		{line: "M3", text: "a message over max_frame", want: reaction{close: wire.CloseTooLarge}, bytes: func(at inputPlace) []byte {
			return binaryMessage(make([]byte, at.maxFrame+1))
		}},
		{line: "M3", text: "fragments over max_frame", want: reaction{close: wire.CloseTooLarge}, bytes: func(at inputPlace) []byte {
			return append(maskedFrame(websocket.Binary, zeros(at)), maskedFrame(0x80, zeros(at))...)
		}},
		raw("M4", "an impossible length", wire.CloseBadFrame,
			0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0),
		raw("M5", "an unmasked frame", 1002, 0x82, 1, 0x91),
		raw("M5", "reserved bits", 1002, maskedFrame(0xc0|websocket.Binary, []byte{0x91, 5})...),
		raw("M5", "a reserved opcode", 1002, maskedFrame(0x8b, nil)...),
		raw("M5", "a continuation of nothing", 1002, maskedFrame(0x80, []byte{0x91, 5})...),
		frame("M6", "an empty message", wire.CloseBadFrame),
		frame("M7", "a map", wire.CloseBadFrame, 0x80),
		frame("M7", "byte 0xc1", wire.CloseBadFrame, 0xc1),
		frame("M8", "an empty array", wire.CloseBadFrame, 0x90),
		frame("M9", "a 32-bit array", wire.CloseBadFrame, 0xdd, 0, 0, 0, 1, 5),
		frame("M10", "a type that is a string", wire.CloseBadFrame, 0x91, 0xa1, 'x'),
		frame("M10", "a negative type", wire.CloseBadFrame, 0x91, 0xff),
		frame("M11", "an unknown critical type", wire.CloseUnknownType, 0x91, 15),
		frame("M12", "a type of the server", wire.CloseUnknownType, 0x91, 17),
		{line: "M13", text: "an ignorable type", bytes: func(inputPlace) []byte { return binaryMessage([]byte{0x92, 99, 0xc1}) }},
		frame("M14", "a PING that ends too soon", wire.CloseBadFrame, 0x92, 5),
		frame("M14", "bytes behind a PING", wire.CloseBadFrame, 0x91, 5, 0),
		frame("M18", "a 32-bit string behind what is known", wire.CloseBadFrame, 0x93, 5, 0, 0xdb, 0, 0, 0, 0),
		raw("M27", "a Close whose reason is not UTF-8", 1007, maskedFrame(websocket.Fin|websocket.Close, []byte{3, 0xe8, 0xff, 0xfe})...),
		{line: "M17", text: "more elements than known", bytes: func(inputPlace) []byte {
			return binaryMessage(packArray(packInt(4), packInt(1<<40), packInt(0), packNil, packString("new")))
		}},
		frame("M19", "HELLO twice", wire.CloseBadFrame, 0x91, 1),
		frame("M20", "a PING with a string", wire.CloseBadFrame, 0x92, 5, 0xa1, 'x'),
		{line: "M23", text: "RESULT for an unknown command", bytes: func(inputPlace) []byte {
			return binaryMessage(packArray(packInt(4), packInt(1<<41), packInt(0)))
		}},
	}
}

func badLayouts() []badInput {
	refused := func(line, text string, channel int, code wire.Code, fields ...[]byte) badInput {
		frame := packArray(append([][]byte{packInt(2), packInt(7)}, fields...)...)
		return badInput{
			line: line, text: text, want: reaction{layout: code, channel: channel},
			bytes: func(inputPlace) []byte { return binaryMessage(frame) },
		}
	}
	name := packString("x")
	channels := packArray(packArray(name))
	one := func(fields ...[]byte) []byte { return packArray(packArray(fields...)) }
	return []badInput{
		{line: "L1", text: "a layout without a number", want: reaction{close: wire.CloseBadFrame}, bytes: func(inputPlace) []byte {
			return binaryMessage(packArray(packInt(2), packNil, packNil, channels))
		}},
		refused("L2", "a layout's name with a space", wire.WholeRow, wire.CodeName, packString("a b"), channels),
		refused("L3", "a layout's name that is a number", wire.WholeRow, wire.CodeType, packInt(1), channels),
		refused("L4", "no channels field", wire.WholeRow, wire.CodeMalformed, name),
		refused("L5", "channels that are a number", wire.WholeRow, wire.CodeType, name, packInt(1)),
		refused("L6", "no channels", wire.WholeRow, wire.CodeRange, name, packArray()),
		refused("L7", "a channel that is a number", 0, wire.CodeType, name, packArray(packInt(1))),
		refused("L8", "a channel's name twice", 1, wire.CodeName, name, packArray(packArray(name), packArray(name))),
		refused("L9", "a unit with U+0000", 0, wire.CodeString, name, one(name, packString("\x00"))),
		refused("L10", "an unknown kind", 0, wire.CodeUnsupported, name, one(name, packNil, packInt(9))),
		refused("L11", "exp10 of 10", 0, wire.CodeRange, name, one(name, packNil, packInt(0), packInt(10))),
		refused("L12", "a unit that is a number", 0, wire.CodeType, name, one(name, packInt(1))),
		refused("M16", "a layout with bytes behind it", wire.WholeRow, wire.CodeMalformed, name, channels, packNone),
	}
}

func badData() []badInput {
	closed := func(line, text string, code wire.CloseCode, fields ...[]byte) badInput {
		frame := packArray(append([][]byte{packInt(3)}, fields...)...)
		return badInput{
			line: line, text: text, want: reaction{close: code},
			bytes: func(inputPlace) []byte { return binaryMessage(frame) },
		}
	}
	refused := func(line, text string, code wire.Code, frame func(at inputPlace) []byte) badInput {
		return badInput{
			line: line, text: text, want: reaction{rows: code, channel: wire.WholeRow},
			bytes: func(at inputPlace) []byte { return binaryMessage(frame(at)) },
		}
	}
	// fields stand behind seq and n.
	malformed := func(line, text string, fields ...[]byte) badInput {
		return refused(line, text, wire.CodeMalformed, func(at inputPlace) []byte { return dataFrame(at, fields...) })
	}
	named := func(line, text string, code wire.Code, names []byte) badInput {
		return refused(line, text, code, func(at inputPlace) []byte {
			return dataFrame(at, packInt(at.time), names, packNil, packArray(packInt(0), packNil))
		})
	}
	good := packArray(packInt(0), packNil, packNil, packNil)
	t0, layout := packInt(1_700_000_000_000), packInt(1)
	unknown := refused("D7", "a layout that is not declared", wire.CodeUnknownLayout, func(at inputPlace) []byte {
		return dataFrame(at, packInt(at.time), packInt(4242), packNil, good)
	})
	unknown.want.needed = true
	return []badInput{
		closed("D1", "no seq", wire.CloseBadFrame, packNil, packInt(1), t0, layout, packNil, good),
		closed("D2", "n of 0", wire.CloseBadFrame, packInt(0), packInt(0), t0, layout, packNil, good),
		closed("D4", "seq beyond 2^53", wire.CloseBadFrame, packInt(1<<53), packInt(1), t0, layout, packNil, good),
		{line: "D5", text: "sequence numbers that go back", want: reaction{close: wire.CloseBadSeq}, bytes: func(at inputPlace) []byte {
			first := binaryMessage(dataFrame(at, packMap, layout, packNil, good))
			return append(first, first...)
		}},
		refused("D3", "5,000 rows", wire.CodeMalformed, func(at inputPlace) []byte {
			return packArray(packInt(3), packInt(at.seq), packInt(5000), t0, layout, packNil, good)
		}),
		unknown,
		malformed("D8", "no layout", t0, packNil, packNil, good),
		named("D9", "no names", wire.CodeRange, packArray()),
		named("D10", "a name twice", wire.CodeName, packArray(packString("x"), packString("x"))),
		named("D11", "a name that is a number", wire.CodeType, packArray(packInt(1))),
		malformed("D13", "t0 that is a string", packString("now"), layout, packNil, good),
		malformed("D14", "a negative step", t0, layout, packInt(-1), good),
		malformed("D15", "vals that are a map", t0, layout, packNil, packMap),
		malformed("D16", "too few values", t0, layout, packNil, packArray(packInt(0), packNil)),
		refused("D17", "vals that end too soon", wire.CodeMalformed, func(at inputPlace) []byte {
			frame := dataFrame(at, t0, layout, packNil, good)
			return frame[:len(frame)-1]
		}),
		refused("D18", "bytes behind the array", wire.CodeMalformed, func(at inputPlace) []byte {
			return append(dataFrame(at, t0, layout, packNil, good), 0)
		}),
		malformed("D19", "a 32-bit string", t0, layout, packNil, packArray(packInt(0), packNil, packNil, packWide)),
		malformed("D20", "deep nesting", t0, layout, packNil, packArray(packInt(0), packDeep, packNil, packNil)),
		malformed("D21", "byte 0xc1", t0, layout, packNil, packArray(packInt(0), packNone, packNil, packNil)),
		malformed("D22", "no dt", t0, layout, packNil, packArray(packNil, packNil, packNil, packNil)),
		malformed("D23", "packed values without a step", t0, layout, packNil, packExt(2, 0, 0, 0, 0, 0, 0)),
		refused("D24", "a time of 1990", wire.CodeTimePast, func(at inputPlace) []byte {
			return dataFrame(at, packInt(longAgo), layout, packNil, good)
		}),
		refused("D25", "a time a year ahead", wire.CodeTimeFuture, func(at inputPlace) []byte {
			return dataFrame(at, packInt(at.time+yearMs), layout, packNil, good)
		}),
	}
}

// badValues leave a row without a reading in the database.
func badValues() []badInput {
	refused := func(line, text string, channel int, code wire.Code, value []byte) badInput {
		return badInput{
			line: line, text: text, want: reaction{value: code, channel: channel},
			bytes: func(at inputPlace) []byte {
				values := [][]byte{packNil, packNil, packNil}
				values[channel] = value
				return binaryMessage(rowOf(at, values...))
			},
		}
	}
	floats := func(numbers ...float32) []byte {
		var data []byte
		for _, number := range numbers {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(number))
		}
		return packExt(4, data...)
	}
	packed := func(line, text string, want reaction, numbers ...float32) badInput {
		return badInput{line: line, text: text, want: want, bytes: func(at inputPlace) []byte {
			return binaryMessage(dataFrame(at, packInt(at.time), packInt(1), packInt(1000), floats(numbers...)))
		}}
	}
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	return []badInput{
		refused("D26", "NaN", intruderNumber, wire.CodeNotFinite, packFloat(math.NaN())),
		packed("D27", "packed NaN", reaction{accepted: true}, nan, nan, nan),
		packed("D28", "packed infinity", reaction{value: wire.CodeNotFinite, channel: intruderNumber}, inf, nan, nan),
		refused("D29", "2^64-1", intruderNumber, wire.CodeRange, packUint(math.MaxUint64)),
		refused("D29", "-2^53-1", intruderNumber, wire.CodeRange, packInt(-1<<53-1)),
		refused("D30", "a text of 256 bytes", intruderText, wire.CodeString, packString(strings.Repeat("x", 256))),
		refused("D31", "a text that is not UTF-8", intruderText, wire.CodeString, packString("\xff")),
		refused("D32", "a text with U+0000", intruderText, wire.CodeString, packString("\x00")),
		refused("D33", "a binary for a number", intruderNumber, wire.CodeType, packBin),
		refused("D33", "a bool for a text", intruderText, wire.CodeType, packTrue),
		refused("D33", "a string for a bool", intruderBool, wire.CodeType, packString("true")),
		refused("D34", "an array as a value", intruderNumber, wire.CodeUnsupported, packArray()),
		refused("D34", "a map as a value", intruderText, wire.CodeUnsupported, packMap),
		refused("D34", "a timestamp as a value", intruderNumber, wire.CodeUnsupported,
			append([]byte{0xd6, 0xff}, bytes.Repeat([]byte{1}, 4)...)),
		packed("D35", "a packed number for a bool", reaction{value: wire.CodeType, channel: intruderBool}, nan, 1, nan),
	}
}
