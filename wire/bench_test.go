package wire

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// sampleData is a frame of the usual shape: rows a second apart, one value for
// each channel.
func sampleData(rows, channels int, kind ValueKind) *Data {
	data := &Data{Seq: 70_000, Layout: 1, Rows: make([]Row, rows)}
	for i := range data.Rows {
		data.Rows[i].Time = 1_790_000_000_000_000 + int64(i)*1_000_000
		data.Rows[i].Values = make([]Value, channels)
		for j := range data.Rows[i].Values {
			data.Rows[i].Values[j] = Value{Kind: kind, Number: 20.1 + float64(i*channels+j), Int: int64(i + j)}
		}
	}
	return data
}

func numberLayout(channels int) *Layout {
	layout := &Layout{Number: 1, Name: "env"}
	for i := range channels {
		layout.Channels = append(layout.Channels, Channel{Name: fmt.Sprintf("c%d", i)})
	}
	return layout
}

// decodeAll decodes a frame the way a session does and answers its row count.
// layout is filled in if the frame declares one.
func decodeAll(d *Decoder, frame []byte, layout *Layout, row *Row) (rows int, err error) {
	head, err := d.DataHead(frame)
	if err != nil {
		return 0, err
	}
	if len(head.Names) > 0 {
		inferred, err := d.InferLayout(head)
		if err != nil {
			return 0, err
		}
		*layout = inferred
	}
	d.Rows(layout, 0)
	for d.Next(row) {
		rows++
	}
	return rows, d.Err()
}

var shapes = []struct{ rows, channels int }{{1, 1}, {10, 5}, {100, 10}}

func BenchmarkDecodeData(b *testing.B) {
	for _, shape := range shapes {
		b.Run(fmt.Sprintf("rows=%d/channels=%d", shape.rows, shape.channels), func(b *testing.B) {
			frame, err := NewEncoder().Data(sampleData(shape.rows, shape.channels, ValueNumber))
			require.NoError(b, err)
			benchmarkDecode(b, frame, shape.rows, shape.channels)
		})
	}
	b.Run("packed=int16/rows=100/channels=1", func(b *testing.B) {
		data := sampleData(100, 1, ValueInt)
		data.Step, data.Packing = 1_000_000, PackInt16
		frame, err := NewEncoder().Data(data)
		require.NoError(b, err)
		benchmarkDecode(b, frame, 100, 1)
	})
	b.Run("names/rows=10/channels=5", func(b *testing.B) {
		data := sampleData(10, 5, ValueNumber)
		data.Names = []string{"temperature", "humidity", "pressure", "battery", "rssi"}
		frame, err := NewEncoder().Data(data)
		require.NoError(b, err)
		benchmarkDecode(b, frame, 10, 5)
	})
}

func benchmarkDecode(b *testing.B, frame []byte, rows, channels int) {
	b.Helper()
	decoder, layout, row := NewDecoder(Limits{}), numberLayout(channels), new(Row)
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		if got, err := decodeAll(decoder, frame, layout, row); got != rows || err != nil {
			b.Fatal(got, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows*channels), "ns/value")
}

func BenchmarkEncodeData(b *testing.B) {
	for _, shape := range shapes {
		b.Run(fmt.Sprintf("rows=%d/channels=%d", shape.rows, shape.channels), func(b *testing.B) {
			encoder, data := NewEncoder(), sampleData(shape.rows, shape.channels, ValueNumber)
			b.ReportAllocs()
			for b.Loop() {
				frame, err := encoder.Data(data)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(len(frame)))
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*shape.rows), "ns/row")
		})
	}
}

func BenchmarkEncodeAck(b *testing.B) {
	encoder, ack := NewEncoder(), &Ack{Next: 1_000_000, Window: 16}
	b.SetBytes(int64(len(encoder.Ack(ack))))
	b.ReportAllocs()
	for b.Loop() {
		encoder.Ack(ack)
	}
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	// Not parallel: AllocsPerRun counts the whole process.
	mixed := &Layout{Channels: []Channel{{Name: "n", Exp10: -1}, {Name: "b", Kind: KindBool}, {Name: "s", Kind: KindText}}}
	values := []Value{{Kind: ValueInt, Int: 215}, {Kind: ValueBool, Number: 1}, {Kind: ValueText, Text: []byte("off")}}
	packed := sampleData(100, 2, ValueFloat32)
	packed.Step, packed.Packing = 1_000_000, PackFloat32
	cases := map[string]struct {
		data   *Data
		layout *Layout
	}{
		"float64": {sampleData(50, 5, ValueNumber), numberLayout(5)},
		"mixed":   {&Data{Rows: []Row{{Values: values}, {Values: values}}}, mixed},
		"refused": {&Data{Rows: []Row{{Values: values}, {Values: values}}}, numberLayout(3)},
		"names":   {&Data{Names: []string{"a", "b", "c"}, Rows: []Row{{Values: values}}}, new(Layout)},
		"packed":  {packed, numberLayout(2)},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			encoder, decoder, row := NewEncoder(), NewDecoder(Limits{}), new(Row)
			frame, err := encoder.Data(tc.data)
			require.NoError(t, err)
			frame = append([]byte(nil), frame...)
			require.Zero(t, testing.AllocsPerRun(100, func() {
				rows, err := decodeAll(decoder, frame, tc.layout, row)
				if err != nil || rows != len(tc.data.Rows) {
					panic(fmt.Sprint(rows, err))
				}
			}), "decoding")
			require.Zero(t, testing.AllocsPerRun(100, func() {
				if _, err := encoder.Data(tc.data); err != nil {
					panic(err)
				}
			}), "encoding")
		})
	}
}
