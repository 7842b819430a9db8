package wire

import (
	"reflect"
	"runtime/metrics"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"
)

// seed gives the vectors to a fuzz target, those of other types too.
func seed(f *testing.F) {
	f.Helper()
	for _, v := range readVectors(f) {
		f.Add(v.frame)
	}
}

// allocated is the number of bytes allocated so far.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// bounded sees that do allocates in proportion to the frame. The constant is
// for the runtime's own business meanwhile.
func bounded(t *testing.T, frame []byte, do func()) {
	t.Helper()
	before := allocated()
	do()
	require.Less(t, allocated()-before, uint64(4<<20+256*len(frame)), "bytes allocated for %d", len(frame))
}

// fuzzFrame checks one kind of frame: no panic, no memory out of proportion, and
// what is accepted means the same when encoded and decoded again.
func fuzzFrame(f *testing.F, kind FrameType) {
	f.Helper()
	seed(f)
	f.Fuzz(func(t *testing.T, frame []byte) {
		decoder, encoder := NewDecoder(Limits{}), NewEncoder()
		var decoded any
		var err error
		bounded(t, frame, func() { decoded, err = decodeFrame(decoder, kind, frame) })
		if err != nil {
			require.True(t, isFault(err), "%T", err)
			return
		}
		again, err := decodeFrame(decoder, kind, encodeFrame(encoder, decoded))
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(decoded, again, cmpopts.EquateEmpty()))
	})
}

func isFault(err error) bool {
	switch err.(type) { //nolint:errorlint // the decoder promises these types themselves
	case *FrameError, *BodyError, *LayoutError:
		return true
	}
	return false
}

func FuzzHello(f *testing.F)   { fuzzFrame(f, FrameHello) }
func FuzzLayout(f *testing.F)  { fuzzFrame(f, FrameLayout) }
func FuzzResult(f *testing.F)  { fuzzFrame(f, FrameResult) }
func FuzzPing(f *testing.F)    { fuzzFrame(f, FramePing) }
func FuzzWelcome(f *testing.F) { fuzzFrame(f, FrameWelcome) }
func FuzzAck(f *testing.F)     { fuzzFrame(f, FrameAck) }
func FuzzCommand(f *testing.F) { fuzzFrame(f, FrameCommand) }
func FuzzNotice(f *testing.F)  { fuzzFrame(f, FrameNotice) }
func FuzzPong(f *testing.F)    { fuzzFrame(f, FramePong) }

// FuzzFrameTypeOf also sees that it agrees with the library's reading of the
// head, which it does by hand.
func FuzzFrameTypeOf(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, frame []byte) {
		kind, err := FrameTypeOf(frame)
		if err != nil {
			require.True(t, isFault(err), "%T", err)
			return
		}
		r := NewDecoder(Limits{}).read
		r.reset(frame)
		_, err = r.dec.DecodeArrayLen()
		require.NoError(t, err)
		value, err := r.dec.DecodeInt64()
		require.NoError(t, err)
		require.Equal(t, int64(kind), value)
	})
}

// FuzzValidateValue sees that a valid value is one the library can skip.
func FuzzValidateValue(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, value []byte) {
		var err error
		bounded(t, value, func() { err = ValidateValue(value) })
		if err != nil {
			return
		}
		r := NewDecoder(Limits{}).read
		r.reset(value)
		require.NoError(t, r.dec.Skip())
		require.Zero(t, r.left())
	})
}

// fuzzLayouts are what declared numbers stand for, by number modulo their count.
var fuzzLayouts = []*Layout{
	{Channels: []Channel{{Name: "n"}, {Name: "b", Kind: KindBool}, {Name: "s", Kind: KindText}}},
	{Channels: []Channel{{Name: "n", Exp10: -1}}},
	{Channels: []Channel{{Name: "x"}, {Name: "y", Exp10: 9}}},
}

// decodeRows decodes a DATA frame and copies its rows.
func decodeRows(d *Decoder, frame []byte, now int64) (head DataHead, layout Layout, rows []Row, err error) {
	if head, err = d.DataHead(frame); err != nil {
		return head, layout, nil, err
	}
	layout = *fuzzLayouts[int(head.Layout)%len(fuzzLayouts)]
	if len(head.Names) > 0 {
		if layout, err = d.InferLayout(head); err != nil {
			return head, layout, nil, err
		}
	}
	var row Row
	for d.Rows(&layout, now); d.Next(&row); {
		kept := row
		kept.Values = append([]Value(nil), row.Values...)
		rows = append(rows, kept)
	}
	return head, layout, rows, d.Err()
}

func FuzzData(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add(v.frame, false)
		f.Add(v.frame, true)
	}
	const now = 1_790_000_000_000_000
	f.Fuzz(func(t *testing.T, frame []byte, narrow bool) {
		decoder := NewDecoder(Limits{})
		if narrow {
			decoder.SetTimeRange(now-1_000_000, now+1_000_000)
		} else {
			decoder.SetTimeRange(-1<<63, 0)
		}
		var head DataHead
		var layout Layout
		var rows []Row
		var err error
		bounded(t, frame, func() { head, layout, rows, err = decodeRows(decoder, frame, now) })
		checkRejects(t, decoder, head, len(rows), err)
		if err != nil || decoder.RowsRefused() > 0 {
			return
		}
		checkRows(t, &layout, head, rows)

		data := Data{Seq: head.Seq, Layout: head.Layout, Names: head.Names, Step: head.Step, ServerTime: head.ServerTime, Rows: rows}
		encoded, err := NewEncoder().Data(&data)
		if err != nil {
			// A float64 takes more room than what it came from.
			require.ErrorIs(t, err, ErrTooMany)
			return
		}
		if len(encoded) > MaxFrameBytes {
			return
		}
		decoder.Reset()
		_, _, again, err := decodeRows(decoder, encoded, now)
		if len(head.Names) > 0 && err == nil && decoder.Rejected() > 0 {
			return // the first value was refused, so now another one shows the kind
		}
		require.NoError(t, err)
		require.Zero(t, decoder.Rejected())
		if head.ServerTime {
			fromFirstRow(rows)
			fromFirstRow(again)
		}
		require.Empty(t, cmp.Diff(rows, again, cmpopts.EquateEmpty()))
	})
}

// fromFirstRow makes times distances from the first row: without t0, encoding
// keeps no more.
func fromFirstRow(rows []Row) {
	for i := len(rows) - 1; i >= 0; i-- {
		rows[i].Time -= rows[0].Time
	}
}

// checkRejects sees that refusals and rows add up to the frame.
func checkRejects(t *testing.T, d *Decoder, head DataHead, rows int, err error) {
	t.Helper()
	if _, fatal := err.(*FrameError); fatal { //nolint:errorlint // promised type
		return
	}
	var total, whole uint64
	for _, reject := range d.Rejects() {
		require.GreaterOrEqual(t, reject.Seq, head.Seq)
		require.LessOrEqual(t, reject.Seq+reject.N, head.Seq+uint64(head.N))
		require.NotZero(t, reject.N)
		require.NotZero(t, reject.Code)
		total += reject.N
		if reject.Channel == WholeRow {
			whole += reject.N
		}
	}
	require.Equal(t, total, d.Rejected())
	require.Equal(t, whole, d.RowsRefused())
	if err != nil {
		require.IsType(t, &BodyError{}, err)
		require.Equal(t, uint64(head.N), whole)
		return
	}
	require.Equal(t, head.N, rows+int(whole))
}

// checkRows sees that values are what their channels can store.
func checkRows(t *testing.T, layout *Layout, head DataHead, rows []Row) {
	t.Helper()
	stored := map[Kind]ValueKind{KindNumber: ValueNumber, KindBool: ValueBool, KindText: ValueText}
	for i, row := range rows {
		require.Equal(t, head.Seq+uint64(i), row.Seq)
		require.Len(t, row.Values, len(layout.Channels))
		for j, value := range row.Values {
			if value.Kind == ValueNil {
				require.True(t, reflect.ValueOf(value).IsZero())
				continue
			}
			require.Equal(t, stored[layout.Channels[j].Kind], value.Kind)
			require.False(t, value.Number-value.Number != 0, "finite")
			require.True(t, len(value.Text) <= DefaultMaxText && isText(value.Text))
		}
	}
}
