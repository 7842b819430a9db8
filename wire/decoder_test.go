package wire

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func encodeData(t *testing.T, data *Data) []byte {
	t.Helper()
	frame, err := NewEncoder().Data(data)
	require.NoError(t, err)
	return bytes.Clone(frame)
}

// TestFaultInLastRowsRefusesTheFrame: the caller has seen 499 good rows by then.
func TestFaultInLastRowsRefusesTheFrame(t *testing.T) {
	t.Parallel()
	frame := encodeData(t, sampleData(500, 1, ValueNumber))
	frame[len(frame)-9] = 0xc1 // the last value's code
	decoder, row := NewDecoder(Limits{}), new(Row)
	rows, err := decodeAll(decoder, frame, numberLayout(1), row)
	require.Equal(t, 499, rows)
	var fault *BodyError
	require.ErrorAs(t, err, &fault)
	require.Equal(t, Reject{Seq: 70_000, N: 500, Channel: WholeRow, Code: CodeMalformed}, fault.Reject())
	require.Equal(t, []Reject{fault.Reject()}, decoder.Rejects())
	require.Equal(t, uint64(500), decoder.RowsRefused())
	require.False(t, decoder.Next(row), "an error is the end")
	require.ErrorContains(t, err, "vals")

	// The next frame finds nothing of it.
	rows, err = decodeAll(decoder, encodeData(t, sampleData(2, 1, ValueNumber)), numberLayout(1), row)
	require.NoError(t, err)
	require.Equal(t, 2, rows)
	require.Empty(t, decoder.Rejects())
}

// TestExtraElementsAreCheckedWithTheLastRow: a caller that stops at the last row
// must have seen the whole frame.
func TestExtraElementsAreCheckedWithTheLastRow(t *testing.T) {
	t.Parallel()
	frame := append(encodeData(t, sampleData(1, 1, ValueNumber)), 0)
	decoder, row := NewDecoder(Limits{}), new(Row)
	_, err := decoder.DataHead(frame)
	require.NoError(t, err)
	decoder.Rows(numberLayout(1), 0)
	require.False(t, decoder.Next(row))
	require.ErrorIs(t, decoder.Err(), ErrTrailing)
}

func TestRowsNeedAHead(t *testing.T) {
	t.Parallel()
	decoder, row := NewDecoder(Limits{}), new(Row)
	decoder.Rows(numberLayout(1), 0)
	require.False(t, decoder.Next(row))
	require.NoError(t, decoder.Err())

	_, err := decoder.DataHead([]byte{0x91, 0x03})
	require.Error(t, err)
	decoder.Rows(numberLayout(1), 0)
	require.False(t, decoder.Next(row))

	_, err = decoder.DataHead(encodeData(t, sampleData(2, 1, ValueNumber)))
	require.NoError(t, err)
	decoder.Rows(nil, 0)
	require.False(t, decoder.Next(row))
	require.ErrorContains(t, decoder.Err(), "UNKNOWN_LAYOUT")
}

// TestIntegersAreScaledToTheNearest compares with exact arithmetic.
func TestIntegersAreScaledToTheNearest(t *testing.T) {
	t.Parallel()
	integers := []int64{0, 1, -1, 3, 7, 215, -215, 12_345_678_901, 1<<53 - 1, 1 << 53, -(1 << 53), 1 << 62, math.MinInt64}
	for _, integer := range integers {
		for exp10 := int8(-maxExp10); exp10 <= maxExp10; exp10++ {
			var value Value
			require.Zero(t, value.setInteger(integer, false, exp10))
			exact, _ := new(big.Rat).SetString(fmt.Sprintf("%de%d", integer, exp10))
			nearest, _ := exact.Float64()
			require.Equal(t, nearest, value.Number, "%d·10^%d", integer, exp10)
		}
	}
	for _, inexact := range []int64{1<<53 + 1, -(1<<53 + 1), math.MaxInt64, math.MinInt64 + 1} {
		require.Equal(t, CodeRange, new(Value).setInteger(inexact, false, 0), "%d", inexact)
	}
	bits := uint64(math.MaxUint64)
	require.Equal(t, CodeRange, new(Value).setInteger(int64(bits), true, 0))
}

func TestRunsOfRefusals(t *testing.T) {
	t.Parallel()
	var runs rejectRuns
	for seq := range uint64(4) {
		runs.add(seq, 0, CodeType, 3)
		runs.add(seq, 2, CodeRange, 3)
	}
	runs.add(4, 0, CodeRange, 3) // another code
	runs.add(5, WholeRow, CodeTimePast, 3)
	runs.add(6, 0, CodeRange, 3) // a gap
	require.Equal(t, []Reject{
		{Seq: 0, N: 4, Channel: 0, Code: CodeType},
		{Seq: 0, N: 4, Channel: 2, Code: CodeRange},
		{Seq: 4, N: 1, Channel: 0, Code: CodeRange},
		{Seq: 5, N: 1, Channel: WholeRow, Code: CodeTimePast},
		{Seq: 6, N: 1, Channel: 0, Code: CodeRange},
	}, runs.list)
	require.Equal(t, uint64(11), runs.refused)
	require.Equal(t, uint64(1), runs.rows)

	// One frame of faults must not hold memory for ever.
	runs.list = make([]Reject, 0, maxKeptRejects+1)
	runs.reset()
	require.Zero(t, cap(runs.list))
}

func TestAppendRejects(t *testing.T) {
	t.Parallel()
	list := AppendRejects(nil, []Reject{{Seq: 0, N: 10, Channel: WholeRow, Code: CodeUnknownLayout}, {Seq: 3, N: 1, Channel: 1, Code: CodeType}})
	list = AppendRejects(list, []Reject{{Seq: 10, N: 5, Channel: WholeRow, Code: CodeUnknownLayout}})
	require.Equal(t, []Reject{{Seq: 0, N: 15, Channel: WholeRow, Code: CodeUnknownLayout}, {Seq: 3, N: 1, Channel: 1, Code: CodeType}}, list)

	for i := range uint64(100) {
		list = AppendRejects(list, []Reject{{Seq: 100 + 2*i, N: 1, Channel: 0, Code: CodeType}})
	}
	require.Len(t, list, MaxAckRejects)
	for i := range uint64(100) {
		list = AppendRejects(list, []Reject{{Seq: 1000 + 2*i, N: 1, Channel: WholeRow, Code: CodeQuota}})
	}
	require.Len(t, list, MaxAckRejects)
	for _, reject := range list {
		require.False(t, reject.Code.Final(), "final refusals give way")
	}
}

// A device sends again from the oldest row on that is told to be refused for now. Where
// not all can be told, it must be the oldest ones that are.
func TestTheOldestRefusalsForNowAreTold(t *testing.T) {
	t.Parallel()
	var list []Reject
	for i := range uint64(MaxAckRejects) {
		list = AppendRejects(list, []Reject{{Seq: 2 * i, N: 1, Channel: 0, Code: CodeType}})
	}
	for i := range uint64(24) {
		list = AppendRejects(list, []Reject{{Seq: 1<<40 + 2*i, N: 1, Channel: WholeRow, Code: CodeQuota}})
	}
	frame, listed := NewEncoder().AckWithin(&Ack{Next: 1 << 41, Window: 16, Rejected: 1, Rejects: list}, MinReceive)
	require.Less(t, listed, 24)
	ack, err := NewDecoder(Limits{}).Ack(frame)
	require.NoError(t, err)
	for i, reject := range ack.Rejects {
		require.Equal(t, Reject{Seq: 1<<40 + 2*uint64(i), N: 1, Channel: WholeRow, Code: CodeQuota}, reject)
	}
}

// namesFrame is a DATA frame of one row that declares its layout on the fly.
func namesFrame(t *testing.T, names []string, values ...Value) []byte {
	t.Helper()
	return encodeData(t, &Data{Names: names, Rows: []Row{{Values: values}}})
}

func infer(t *testing.T, d *Decoder, frame []byte) Layout {
	t.Helper()
	head, err := d.DataHead(frame)
	require.NoError(t, err)
	layout, err := d.InferLayout(head)
	require.NoError(t, err)
	var row Row
	for d.Rows(&layout, 0); d.Next(&row); {
		continue
	}
	require.NoError(t, d.Err())
	return layout
}

func TestKindsAreInferredFromTheFirstValue(t *testing.T) {
	t.Parallel()
	text, truth, number := Value{Kind: ValueText, Text: []byte("x")}, Value{Kind: ValueBool}, Value{Kind: ValueInt, Int: 1}
	decoder, names := NewDecoder(Limits{}), []string{"a", "b"}

	first := infer(t, decoder, namesFrame(t, names, Value{}, truth))
	require.Equal(t, []Channel{{Name: "a"}, {Name: "b", Kind: KindBool}}, first.Channels)
	require.GreaterOrEqual(t, first.Number, uint32(FirstInferred))

	second := infer(t, decoder, namesFrame(t, names, text, Value{}))
	require.Equal(t, []Channel{{Name: "a", Kind: KindText}, {Name: "b", Kind: KindBool}}, second.Channels)
	require.NotEqual(t, first.Number, second.Number, "other content, other number")
	require.Equal(t, KindNumber, first.Channels[0].Kind, "what was handed out stays as it was")

	third := infer(t, decoder, namesFrame(t, names, number, number))
	require.Equal(t, second, third, "kinds stay for the connection")
	require.Len(t, decoder.Rejects(), 2)

	other := infer(t, decoder, namesFrame(t, []string{"a", "c"}, number, number))
	require.NotEqual(t, third.Number, other.Number)

	decoder.Reset()
	require.Equal(t, KindNumber, infer(t, decoder, namesFrame(t, names, number, number)).Channels[0].Kind)
}

func TestLayoutsOnTheFlyAreLimited(t *testing.T) {
	t.Parallel()
	decoder := NewDecoder(Limits{})
	frame := func(i int) []byte {
		return namesFrame(t, []string{fmt.Sprintf("c%d", i)}, Value{Kind: ValueInt})
	}
	for i := range DefaultMaxInferred {
		infer(t, decoder, frame(i))
	}
	_, err := decoder.DataHead(frame(DefaultMaxInferred))
	var fault *BodyError
	require.ErrorAs(t, err, &fault)
	require.Equal(t, CodeQuota, fault.Code)
	infer(t, decoder, frame(3))
}

func TestClock(t *testing.T) {
	t.Parallel()
	var c clock
	c.start(&DataHead{ServerTime: true}, -1)
	micros, code := c.time(0, math.MinInt64, 0)
	require.Zero(t, code)
	require.Equal(t, int64(-1), micros)

	for _, millis := range []int64{maxMillis, -maxMillis} {
		c.start(&DataHead{T0: millis, Step: MaxStep}, 0)
		micros, code = c.time(maxCount, math.MinInt64, 0)
		require.Zero(t, code)
		require.Equal(t, millis*1000+maxCount*int64(MaxStep), micros)
	}
	c.start(&DataHead{T0: maxMillis + 1}, 0)
	_, code = c.time(0, math.MinInt64, 0)
	require.Equal(t, CodeTimeFuture, code)
	c.start(&DataHead{T0: -maxMillis - 1}, 0)
	_, code = c.time(0, math.MinInt64, 0)
	require.Equal(t, CodeTimePast, code)

	c.start(&DataHead{T0: 5}, 0)
	for _, edge := range []struct {
		oldest, newest int64
		want           Code
	}{{5000, 5000, 0}, {5001, 0, CodeTimePast}, {0, 4999, CodeTimeFuture}} {
		_, code = c.time(0, edge.oldest, edge.newest)
		require.Equal(t, edge.want, code)
	}
}

func TestFingerprintLayout(t *testing.T) {
	t.Parallel()
	base := FingerprintLayout("env", []Channel{{Name: "t", Unit: "K"}, {Name: "h"}})
	require.Equal(t, base, FingerprintLayout("env", []Channel{{Name: "t", Unit: "K", Exp10: -2}, {Name: "h"}}), "exp10 is how it travels")
	others := map[string][32]byte{
		"name":         FingerprintLayout("ent", []Channel{{Name: "t", Unit: "K"}, {Name: "h"}}),
		"channel":      FingerprintLayout("env", []Channel{{Name: "u", Unit: "K"}, {Name: "h"}}),
		"unit":         FingerprintLayout("env", []Channel{{Name: "t", Unit: "C"}, {Name: "h"}}),
		"kind":         FingerprintLayout("env", []Channel{{Name: "t", Unit: "K", Kind: KindText}, {Name: "h"}}),
		"order":        FingerprintLayout("env", []Channel{{Name: "h"}, {Name: "t", Unit: "K"}}),
		"shifted":      FingerprintLayout("env", []Channel{{Name: "tK"}, {Name: "h"}}),
		"fewer":        FingerprintLayout("env", []Channel{{Name: "t", Unit: "K"}}),
		"into channel": FingerprintLayout("en", []Channel{{Name: "vt", Unit: "K"}, {Name: "h"}}),
	}
	seen := map[[32]byte]string{base: "base"}
	for what, fingerprint := range others {
		require.Empty(t, seen[fingerprint], "%s", what)
		seen[fingerprint] = what
	}
}

func TestDefaultLayoutName(t *testing.T) {
	t.Parallel()
	for model, want := range map[string]string{
		"": "default", "mk2": "mk2", "ESP32 DevKit": "ESP32_DevKit", "Käfer": "K__fer",
		strings.Repeat("m", 70): strings.Repeat("m", 64),
	} {
		require.Equal(t, want, DefaultLayoutName(model))
		require.True(t, isName([]byte(DefaultLayoutName(model))))
	}
}

func TestErrorsNameFieldAndLimit(t *testing.T) {
	t.Parallel()
	decoder := NewDecoder(Limits{})
	_, err := decoder.Hello([]byte{0x94, 0x01, 0xc0, 0xc0, 0x07})
	require.EqualError(t, err, "frame refused (4200 BAD_FRAME): max_rx: must be from 256 to 2147483647")
	_, err = decoder.DataHead([]byte{0x93, 0x03, 0x05, 0xcd, 0x10, 0x01})
	require.EqualError(t, err, "rows 5 to 4101 refused (MALFORMED): n: a frame has at most 4096 rows")
	_, err = decoder.Layout([]byte{0x94, 0x02, 0x03, 0xc0, 0x91, 0x91, 0xa1, ' '})
	require.EqualError(t, err, "layout 3 refused (NAME): channel 0: a name has 1 to 64 bytes of A-Z a-z 0-9 _ . - /")
	_, err = FrameTypeOf(make([]byte, MaxFrameBytes+1))
	require.EqualError(t, err, "frame refused (4202 TOO_LARGE): more than 65536 bytes")
	_, err = decoder.Ping([]byte{0x91, 0x01})
	require.EqualError(t, err, "frame refused (4200 BAD_FRAME): type: is 1, not 5")
}

// TestCountsAreCheckedBeforeMemoryIsTaken: a count is worth nothing if the bytes
// for it are missing.
func TestCountsAreCheckedBeforeMemoryIsTaken(t *testing.T) {
	t.Parallel()
	decoder := NewDecoder(Limits{})
	_, err := decoder.Layout([]byte{0x94, 0x02, 0x03, 0xc0, 0xdc, 0x01, 0x00, 0x91})
	require.ErrorIs(t, err, errMoreThanFit)
	_, err = decoder.DataHead([]byte{0x97, 0x03, 0x05, 0x01, 0xc0, 0xdc, 0x01, 0x00, 0xa1})
	require.ErrorIs(t, err, errMoreThanFit)
}

// TestValuesOfRefusedRowsAreNotReported, beside the row itself.
func TestValuesOfRefusedRowsAreNotReported(t *testing.T) {
	t.Parallel()
	decoder, row := NewDecoder(Limits{Newest: 1}), new(Row)
	frame := encodeData(t, &Data{Rows: []Row{{Time: 1000, Values: []Value{{Kind: ValueBool}}}, {Time: 0, Values: []Value{{Kind: ValueBool}}}}})
	rows, err := decodeAll(decoder, frame, numberLayout(1), row)
	require.NoError(t, err)
	require.Equal(t, 1, rows)
	require.Equal(t, []Reject{
		{Seq: 0, N: 1, Channel: WholeRow, Code: CodeTimeFuture},
		{Seq: 1, N: 1, Channel: 0, Code: CodeType},
	}, decoder.Rejects())
	require.Equal(t, Value{}, row.Values[0])
}

// TestPackedValuesNeedAStep, or what follows them would be read as dt.
func TestPackedValuesNeedAStep(t *testing.T) {
	t.Parallel()
	frame := []byte{0x98, 0x03, 0x00, 0x01, 0x00, 0x01, 0x00, 0xd5, extInt16, 0x01, 0x00, 0x07}
	rows, err := decodeAll(NewDecoder(Limits{}), frame, numberLayout(1), new(Row))
	require.Zero(t, rows)
	require.ErrorIs(t, err, errPackStep)
}

// TestFirstValueDecides within a frame too.
func TestFirstValueDecides(t *testing.T) {
	t.Parallel()
	frame := encodeData(t, &Data{Names: []string{"a"}, Rows: []Row{
		{Values: []Value{{Kind: ValueNil}}}, {Values: []Value{{Kind: ValueBool}}}, {Values: []Value{{Kind: ValueInt}}},
	}})
	decoder := NewDecoder(Limits{})
	require.Equal(t, KindBool, infer(t, decoder, frame).Channels[0].Kind)
	require.Equal(t, []Reject{{Seq: 2, N: 1, Channel: 0, Code: CodeType}}, decoder.Rejects())
}

// TestSurplusValuesAreNoExtraElement: what vals has too many must not pass for an
// element of a later version.
func TestSurplusValuesAreNoExtraElement(t *testing.T) {
	t.Parallel()
	frame := []byte{0x98, 0x03, 0x00, 0x01, 0x00, 0x01, 0x00, 0x93, 0x00, 0x07, 0x08}
	rows, err := decodeAll(NewDecoder(Limits{}), frame, numberLayout(1), new(Row))
	require.Zero(t, rows)
	require.ErrorIs(t, err, errCount)
}
