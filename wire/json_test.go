package wire

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValueFromJSON(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`null`:                             "c0",
		`true`:                             "c3",
		`5`:                                "05",
		`-1`:                               "ff",
		`18446744073709551615`:             "cfffffffffffffffff",
		`1.5`:                              "cb3ff8000000000000",
		`1e3`:                              "cb408f400000000000",
		`"on"`:                             "a26f6e",
		`[1,[2]]`:                          "92019102",
		`{"b":1,"a":{"c":null}}`:           "82a16181a163c0a16201",
		`{}`:                               "80",
		`[[[[[[[1]]]]]]]`:                  "9191919191919101",
		`100000000000000000000`:            "cb4415af1d78b58c40",
		`"` + strings.Repeat("x", 3) + `"`: "a3787878",
	} {
		value, err := ValueFromJSON([]byte(text))
		require.NoError(t, err, text)
		require.Equal(t, want, hexOf(value), text)
		require.NoError(t, ValidateValue(value), text)
	}
}

func TestValueFromJSONRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		``:                                      "no JSON",
		`{`:                                     "no JSON",
		`1 2`:                                   "more than one JSON value",
		`1e999`:                                 "the number 1e999 is out of range",
		`[[[[[[[[1]]]]]]]]`:                     ErrDepth.Error(),
		`{"a":{"b":1e999}}`:                     "a: b: the number 1e999 is out of range",
		`"` + strings.Repeat("x", 65_536) + `"`: "at most 65535",
		`[0` + strings.Repeat(",0", 65_535) + `]`: "65536 elements",
	} {
		_, err := ValueFromJSON([]byte(text))
		require.ErrorContains(t, err, want, "%.40s", text)
	}
}

func TestValueToJSON(t *testing.T) {
	t.Parallel()
	e := NewEncoder()
	_ = e.out.EncodeArrayLen(9)
	e.null()
	e.bool(false)
	e.uint(math.MaxUint64)
	e.int(math.MinInt64)
	e.float32(0.5)
	e.float64(math.Inf(-1))
	e.string("a\x00\xffé\"")
	_ = e.out.EncodeBytes([]byte{1, 2, 3})
	_ = e.out.EncodeMapLen(2)
	e.string("k")
	_ = e.out.EncodeExtHeader(7, 2)
	e.buffer.bytes = append(e.buffer.bytes, 0xaa, 0xbb)
	e.int(3)
	e.null()
	text, err := ValueToJSON(e.buffer.bytes)
	require.NoError(t, err)
	require.JSONEq(t, `[null,false,18446744073709551615,-9223372036854775808,0.5,"-Inf","a\uFFFD\uFFFDé\"","AQID",
		{"k":{"ext":7,"data":"qrs="},"3":null}]`, string(text))

	for _, bad := range []string{"", "91", "dd00000001c0", "c0c0"} {
		_, err := ValueToJSON(fromHex(t, bad))
		require.Error(t, err, bad)
	}
}

// FuzzValueToJSON: whatever passes is valid JSON and can be carried back.
func FuzzValueToJSON(f *testing.F) {
	seed(f)
	f.Add([]byte{0x81, 0x01, 0xc4, 0x01, 0x00})
	f.Fuzz(func(t *testing.T, value []byte) {
		var text []byte
		var err error
		bounded(t, value, func() { text, err = ValueToJSON(value) })
		if err != nil {
			require.Error(t, ValidateValue(value), "only what is no value is refused")
			return
		}
		require.True(t, json.Valid(text), "%s", text)
	})
}

// FuzzValueFromJSON: whatever passes is a value that frames may carry, and says
// the same when it comes back.
func FuzzValueFromJSON(f *testing.F) {
	f.Add([]byte(`{"a":[1,2.5,"x",null,true]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		value, err := ValueFromJSON(text)
		if err != nil {
			return
		}
		require.NoError(t, ValidateValue(value))
		back, err := ValueToJSON(value)
		require.NoError(t, err)
		again, err := ValueFromJSON(back)
		require.NoError(t, err)
		if !strings.Contains(string(back), "\uFFFD") && !strings.Contains(string(back), `\ufffd`) {
			require.Equal(t, value, again)
		}
	})
}

func hexOf(value []byte) string { return hex.EncodeToString(value) }

func fromHex(t *testing.T, text string) []byte {
	t.Helper()
	value, err := hex.DecodeString(text)
	require.NoError(t, err)
	return value
}
