package client

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// TestBufferAgainstModel does what a client does to its buffer, at random, and
// compares it with a plain slice.
func TestBufferAgainstModel(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	type row struct {
		layout LayoutID
		millis int64
		values []wire.Value
	}
	var buffer rowBuffer
	var model []row
	var send cursor
	first := uint64(0)
	for range 50_000 {
		switch random.IntN(3) {
		case 0:
			r := row{layout: LayoutID(random.IntN(16)), millis: random.Int64()}
			for range random.IntN(6) {
				r.values = append(r.values, randomValue(random))
			}
			buffer.push(r.layout, r.millis, r.values, encodedSize(r.values))
			model = append(model, r)
		case 1: // send some
			if send.seq <= buffer.head.seq {
				send = buffer.head
			}
			for range random.IntN(8) {
				if send.seq == buffer.next {
					break
				}
				layout, millis, encoded, size := peek(&send)
				want := model[send.seq-first]
				require.Equal(t, want.layout, layout)
				require.Equal(t, want.millis, millis)
				require.Equal(t, encodedSize(want.values), size)
				values := readValues(encoded, nil)
				require.Len(t, values, len(want.values))
				for i := range values {
					require.Equal(t, want.values[i].Kind, values[i].Kind)
					require.Equal(t, want.values[i].Number, values[i].Number)
					require.Equal(t, want.values[i].Int, values[i].Int)
					require.True(t, bytes.Equal(want.values[i].Text, values[i].Text))
				}
				send.skip(size)
			}
		case 2: // free some, perhaps more than was sent
			count := min(random.IntN(12), len(model))
			require.Equal(t, count, buffer.drop(first+uint64(count)))
			first += uint64(count)
			model = model[count:]
		}
		require.Equal(t, len(model), buffer.rows())
		size := 0
		for i := range model {
			size += encodedSize(model[i].values)
		}
		require.Equal(t, size, buffer.bytes)
		require.Equal(t, len(model) == 0, buffer.tail == nil)
	}
}

func randomValue(random *rand.Rand) wire.Value {
	value := wire.Value{Kind: wire.ValueKind(random.IntN(int(wire.ValueFloat32) + 1))}
	switch value.Kind {
	case wire.ValueNumber:
		value.Number = random.NormFloat64()
	case wire.ValueFloat32:
		value.Number = float64(random.Float32())
	case wire.ValueBool:
		value.Number = float64(random.IntN(2))
	case wire.ValueInt:
		value.Int = random.Int64()
	case wire.ValueText:
		value.Text = bytes.Repeat([]byte{'x'}, random.IntN(3000)) // some larger than a piece
	case wire.ValueNil:
	}
	return value
}

// TestSteadyStateDoesNotAllocate guards the way of a row: append, frame, ack.
func TestSteadyStateDoesNotAllocate(t *testing.T) {
	if underRace {
		t.Skip("under the race detector pools forget")
	}
	c, l, batch := benchmarkClient(t)
	round := func() { oneFrame(t, c, l, batch) }
	round()
	require.Less(t, testing.AllocsPerRun(1000, round), 0.1)
}

func benchmarkClient(tb testing.TB) (*Client, *link, []wire.Row) {
	tb.Helper()
	c, err := New(Config{URL: "ws://mooring.test", Token: "secret", FrameRows: 10})
	require.NoError(tb, err)
	channels := make([]wire.Channel, 5)
	for i := range channels {
		channels[i].Name = string(rune('a' + i))
	}
	_, err = c.Layout("probe", channels)
	require.NoError(tb, err)
	c.window = 16
	batch := make([]wire.Row, 10)
	for i := range batch {
		batch[i] = wire.Row{Time: int64(i) * 1000, Values: make([]wire.Value, 5)}
		for j := range batch[i].Values {
			batch[i].Values[j] = wire.Value{Kind: wire.ValueNumber, Number: float64(i + j)}
		}
	}
	return c, &link{client: c, declared: 1}, batch
}

func oneFrame(tb testing.TB, c *Client, l *link, batch []wire.Row) int {
	tb.Helper()
	if _, err := c.AppendBatch(0, batch); err != nil {
		tb.Fatal(err)
	}
	s := l.nextFrame(l.now())
	if s.builder == nil {
		tb.Fatal("no frame")
	}
	size := len(s.frame)
	builders.Put(s.builder)
	l.acked(wire.Ack{Next: c.buffer.next, Window: 16})
	return size
}

// BenchmarkFrame is the whole way of ten rows of five numbers through the
// client, without the network.
func BenchmarkFrame(b *testing.B) {
	c, l, batch := benchmarkClient(b)
	b.SetBytes(int64(oneFrame(b, c, l, batch)))
	b.ReportAllocs()
	for b.Loop() {
		oneFrame(b, c, l, batch)
	}
}
