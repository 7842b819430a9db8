package bench

import (
	"encoding/binary"
	"fmt"
	"math"

	"mooring/wire"
)

// shape is what every frame of a load looks like.
type shape struct{ rows, channels int }

// layoutNumber is every device's own number for its one layout.
const layoutNumber = 1

func (s shape) layout() *wire.Layout {
	layout := &wire.Layout{Number: layoutNumber, Name: fmt.Sprintf("bench%d", s.channels)}
	for i := range s.channels {
		layout.Channels = append(layout.Channels, wire.Channel{Name: fmt.Sprintf("channel%d", i+1)})
	}
	return layout
}

// reading is the value of a channel in a row of a frame. All frames hold the
// same ones: what is stored takes the same room whatever it says.
func reading(row, channel int) float32 { return float32(20+channel) + float32(row)/8 }

// row is the row of this number as it is to be stored; base is the time of row
// 0, in ms since 1970. Rows are a millisecond apart.
func (s shape) row(base int64, number uint64, values []wire.Value) wire.Row {
	values = values[:0]
	for channel := range s.channels {
		values = append(values, wire.Value{Kind: wire.ValueNumber, Number: float64(reading(int(number)%s.rows, channel))})
	}
	return wire.Row{Seq: number, Time: (base + int64(number)) * 1000, Values: values}
}

// template is a DATA frame in its WebSocket frame, masked with zeros, which
// leaves the bytes as they are: seq and t0 have fixed places in it.
type template struct {
	shape
	bytes       []byte
	seqAt, t0At int
}

func newTemplate(s shape) *template {
	order := binary.BigEndian
	frame := []byte{0x97, byte(wire.FrameData), 0xcf}
	seqAt := len(frame)
	frame = order.AppendUint64(frame, 0)
	frame = append(frame, 0xcd)
	frame = order.AppendUint16(frame, uint16(s.rows))
	frame = append(frame, 0xd3)
	t0At := len(frame)
	frame = order.AppendUint64(frame, 0)
	frame = append(frame, layoutNumber, 0, 0xdc)
	frame = order.AppendUint16(frame, uint16(s.rows*(1+s.channels)))
	for row := range s.rows {
		frame = append(frame, byte(min(row, 1))) // dt: 0, then 1 ms
		for channel := range s.channels {
			frame = append(frame, 0xca)
			frame = order.AppendUint32(frame, math.Float32bits(reading(row, channel)))
		}
	}
	message := maskedMessage(nil, 2, frame)
	head := len(message) - len(frame)
	return &template{shape: s, bytes: message, seqAt: head + seqAt, t0At: head + t0At}
}

// append appends the frame whose first row has this number.
func (t *template) append(dst []byte, base int64, number uint64) []byte {
	at := len(dst)
	dst = append(dst, t.bytes...)
	binary.BigEndian.PutUint64(dst[at+t.seqAt:], number)
	binary.BigEndian.PutUint64(dst[at+t.t0At:], uint64(base+int64(number)))
	return dst
}

// maskedMessage appends a device's WebSocket frame, masked with zeros.
func maskedMessage(dst []byte, opcode byte, payload []byte) []byte {
	dst = append(dst, 0x80|opcode)
	if len(payload) < 126 {
		dst = append(dst, 0x80|byte(len(payload)))
	} else {
		dst = append(dst, 0x80|126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(payload)))
	}
	dst = append(dst, 0, 0, 0, 0)
	return append(dst, payload...)
}
