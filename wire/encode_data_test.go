package wire

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// dataOf makes of a vector's plain content what the encoder is to be given:
// integers as ValueInt, so that nothing is scaled yet.
func dataOf(t *testing.T, content string) *Data {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(content))
	decoder.UseNumber()
	var fields []any
	require.NoError(t, decoder.Decode(&fields))
	data := &Data{Seq: uint64(integer(t, fields[1])), ServerTime: fields[3] == nil, Step: integer(t, fields[5])}
	data.Rows = make([]Row, integer(t, fields[2]))
	millis := int64(0)
	if !data.ServerTime {
		millis = integer(t, fields[3])
	}
	if names, ok := fields[4].([]any); ok {
		for _, name := range names {
			data.Names = append(data.Names, name.(string))
		}
	} else {
		data.Layout = uint32(integer(t, fields[4]))
	}
	var values []any
	if packed, ok := fields[6].(map[string]any); ok {
		values = unpack(t, data, packed["ext"].([]any))
	} else {
		values = fields[6].([]any)
	}
	perRow := len(values) / len(data.Rows)
	for i := range data.Rows {
		row := values[i*perRow : (i+1)*perRow]
		if data.Step == 0 {
			millis += integer(t, row[0])
			row = row[1:]
		}
		data.Rows[i].Time = millis*1000 + int64(i)*data.Step
		for _, value := range row {
			data.Rows[i].Values = append(data.Rows[i].Values, valueOf(t, value))
		}
	}
	return data
}

func integer(t *testing.T, number any) int64 {
	t.Helper()
	value, err := number.(json.Number).Int64()
	require.NoError(t, err)
	return value
}

func unpack(t *testing.T, data *Data, ext []any) (values []any) {
	t.Helper()
	bits, err := hex.DecodeString(ext[1].(string))
	require.NoError(t, err)
	data.Packing = Packing(integer(t, ext[0]) - 1)
	for size := packedSize(data.Packing); len(bits) > 0; bits = bits[size:] {
		switch data.Packing {
		case PackInt16:
			values = append(values, Value{Kind: ValueInt, Int: int64(int16(binary.LittleEndian.Uint16(bits)))})
		case PackInt32:
			values = append(values, Value{Kind: ValueInt, Int: int64(int32(binary.LittleEndian.Uint32(bits)))})
		default:
			number := float64(math.Float32frombits(binary.LittleEndian.Uint32(bits)))
			value := Value{Kind: ValueFloat32, Number: number}
			if math.IsNaN(number) {
				value = Value{}
			}
			values = append(values, value)
		}
	}
	return values
}

func valueOf(t *testing.T, value any) Value {
	t.Helper()
	switch value := value.(type) {
	case Value:
		return value
	case bool:
		v := Value{Kind: ValueBool}
		if value {
			v.Number = 1
		}
		return v
	case string:
		return Value{Kind: ValueText, Text: []byte(value)}
	case map[string]any:
		number, err := value["f32"].(json.Number).Float64()
		require.NoError(t, err)
		return Value{Kind: ValueFloat32, Number: number}
	case json.Number:
		if strings.ContainsAny(value.String(), ".eE") {
			number, err := value.Float64()
			require.NoError(t, err)
			return Value{Kind: ValueNumber, Number: number}
		}
		return Value{Kind: ValueInt, Int: integer(t, value)}
	}
	return Value{}
}

// TestDataVectorsEncode encodes the content of the DATA vectors to their bytes.
func TestDataVectorsEncode(t *testing.T) {
	t.Parallel()
	encoded := 0
	for _, v := range readVectors(t) {
		kind, _ := FrameTypeOf(v.frame)
		if v.loose || kind != FrameData || !strings.HasPrefix(v.want, "{") || beyondInt64(v.content) || v.name == "data-time-extremes" {
			continue
		}
		encoded++
		frame, err := NewEncoder().Data(dataOf(t, v.content))
		require.NoError(t, err, v.name)
		require.Equal(t, hex.EncodeToString(v.frame), hex.EncodeToString(frame), v.name)
	}
	require.Greater(t, encoded, 12)
}

// beyondInt64 reports whether the content has integers that only a uint64 holds,
// which Value has no room for.
func beyondInt64(content string) bool {
	for _, word := range strings.FieldsFunc(content, func(r rune) bool { return strings.ContainsRune("[], ", r) }) {
		number, ok := new(big.Int).SetString(word, 10)
		if ok && !number.IsInt64() {
			return true
		}
	}
	return false
}

func TestDataRefusesWhatHasNoForm(t *testing.T) {
	t.Parallel()
	number := []Value{{Kind: ValueNumber, Number: 1}}
	row := func(micros int64, values ...Value) Row { return Row{Time: micros, Values: values} }
	cases := map[string]struct {
		data Data
		want error
	}{
		"no rows":              {Data{}, ErrRowCount},
		"too many rows":        {Data{Rows: make([]Row, 65_536)}, ErrRowCount},
		"seq beyond":           {Data{Seq: 1 << 53, Rows: []Row{{Values: number}}}, ErrSeqRange},
		"seq wraps":            {Data{Seq: math.MaxUint64, Rows: []Row{{Values: number}}}, ErrSeqRange},
		"no values":            {Data{Rows: []Row{{}}}, ErrWidth},
		"ragged":               {Data{Rows: []Row{{Values: number}, {}}}, ErrWidth},
		"names":                {Data{Names: []string{"a", "b"}, Rows: []Row{{Values: number}}}, ErrWidth},
		"too many values":      {Data{Rows: []Row{row(0, make([]Value, 65_535)...)}}, ErrTooMany},
		"time not whole":       {Data{Rows: []Row{row(1, number...)}}, ErrTime},
		"second time":          {Data{Rows: []Row{row(0, number...), row(999, number...)}}, ErrTime},
		"time too far":         {Data{Rows: []Row{row(math.MaxInt64/1000*1000, number...)}}, ErrTime},
		"time too early":       {Data{Rows: []Row{row(math.MinInt64/1000*1000, number...)}}, ErrTime},
		"off step":             {Data{Step: 1000, Rows: []Row{row(0, number...), row(1001, number...)}}, ErrStep},
		"step negative":        {Data{Step: -1, Rows: []Row{row(0, number...)}}, ErrStepRange},
		"step too long":        {Data{Step: MaxStep + 1, Rows: []Row{row(0, number...)}}, ErrStepRange},
		"packed without step":  {Data{Packing: PackInt16, Rows: []Row{row(0, number...)}}, ErrStepRange},
		"float as int16":       {Data{Step: 1, Packing: PackInt16, Rows: []Row{row(0, number...)}}, ErrKind},
		"int16 too big":        {Data{Step: 1, Packing: PackInt16, Rows: []Row{row(0, Value{Kind: ValueInt, Int: 1 << 15})}}, ErrKind},
		"int32 too big":        {Data{Step: 1, Packing: PackInt32, Rows: []Row{row(0, Value{Kind: ValueInt, Int: -1<<31 - 1})}}, ErrKind},
		"nil as int32":         {Data{Step: 1, Packing: PackInt32, Rows: []Row{row(0, Value{})}}, ErrKind},
		"integer as float32":   {Data{Step: 1, Packing: PackFloat32, Rows: []Row{row(0, Value{Kind: ValueInt})}}, ErrKind},
		"NaN as packed":        {Data{Step: 1, Packing: PackFloat32, Rows: []Row{row(0, Value{Kind: ValueNumber, Number: math.NaN()})}}, ErrKind},
		"packed float32 range": {Data{Step: 1, Packing: PackFloat32, Rows: []Row{row(0, Value{Kind: ValueNumber, Number: 1e300})}}, ErrKind},
		"float32 range":        {Data{Rows: []Row{row(0, Value{Kind: ValueFloat32, Number: 1e300})}}, ErrKind},
		"unknown packing":      {Data{Step: 1, Packing: 9, Rows: []Row{row(0, number...)}}, ErrKind},
		"unknown kind":         {Data{Rows: []Row{row(0, Value{Kind: 9})}}, ErrKind},
		"long text":            {Data{Rows: []Row{row(0, Value{Kind: ValueText, Text: make([]byte, 65_536)})}}, ErrTextSize},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			frame, err := NewEncoder().Data(&tc.data)
			require.ErrorIs(t, err, tc.want)
			require.Nil(t, frame)
		})
	}
}

// TestServerTimeKeepsDistances: FuzzData found that a first dt other than 0 does
// not come back. Without t0 the encoder has nothing to count it from.
func TestServerTimeKeepsDistances(t *testing.T) {
	t.Parallel()
	// DATA, seq 48, n 2, t0 nil, layout 49, step 0, [dt 48, 48, dt 48, 48]
	frame := []byte("\x97\x03\x30\x02\xc0\x31\x00\x94\x30\x30\x30\x30")
	decoder := NewDecoder(Limits{})
	head, _, rows, err := decodeRows(decoder, frame, 1_000_000)
	require.NoError(t, err)
	require.Equal(t, []int64{1_048_000, 1_096_000}, []int64{rows[0].Time, rows[1].Time})

	again := encodeData(t, &Data{Seq: head.Seq, Layout: head.Layout, ServerTime: true, Rows: rows})
	_, _, rows, err = decodeRows(decoder, again, 1_000_000)
	require.NoError(t, err)
	require.Equal(t, []int64{1_000_000, 1_048_000}, []int64{rows[0].Time, rows[1].Time})
}
