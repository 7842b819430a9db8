package wire

import (
	"math"
	"math/bits"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// pow10 holds the powers by which integers are scaled, each exact.
var pow10 = [maxExp10 + 1]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9}

// valueDepth is the number of arrays around a value: the frame's and vals.
const valueDepth = 2

// value reads one value for a channel (PROTOCOL §5.9). A code other than 0
// refuses the value alone, which then is nil; an error means that the frame is
// broken.
func (r *reader) value(value *Value, channel *Channel, maxText int) (Code, error) {
	code, err := r.peek()
	if err != nil {
		return 0, err
	}
	*value = Value{}
	switch {
	case code == msgpcode.Nil:
		return 0, r.dec.DecodeNil()
	case channel.Kind == KindNumber && code == msgpcode.Double:
		number, err := r.float64()
		return value.setFloat(number), err
	case channel.Kind == KindNumber && code == msgpcode.Float:
		number, err := r.float32()
		return value.setFloat(float64(number)), err
	case channel.Kind == KindNumber && isInteger(code):
		integer, big, err := r.integer()
		return value.setInteger(integer, big, channel.Exp10), err
	case channel.Kind == KindBool && (code == msgpcode.True || code == msgpcode.False):
		truth, err := r.dec.DecodeBool()
		value.setBool(truth)
		return 0, err
	case channel.Kind == KindText && isString(code):
		text, err := r.str()
		return value.setText(text, maxText), err
	}
	return wrongType(code), r.skip(valueDepth)
}

// wrongType tells what no channel takes from what another channel would take.
func wrongType(code byte) Code {
	if isExt(code) || msgpcode.IsFixedArray(code) || msgpcode.IsFixedMap(code) ||
		code == msgpcode.Array16 || code == msgpcode.Map16 {
		return CodeUnsupported // PROTOCOL §5.9.6
	}
	return CodeType // PROTOCOL §5.9.5
}

// setFloat refuses NaN and ±Inf (PROTOCOL §5.9.2).
func (v *Value) setFloat(number float64) Code {
	if math.IsNaN(number) || math.IsInf(number, 0) {
		return CodeNotFinite
	}
	v.Kind, v.Number = ValueNumber, number
	return 0
}

// setInteger scales an integer by 10^exp10. What float64 can't hold exactly is
// refused (PROTOCOL §5.9.1). Both operands are exact, so the one operation
// rounds to the float64 nearest to the decimal number meant: a negative power
// divides, since 10^-1 is not exact. It can't overflow: 2^64·10^9 is far away.
func (v *Value) setInteger(integer int64, big bool, exp10 int8) Code {
	number := float64(integer)
	magnitude := uint64(integer)
	switch {
	case big:
		number = float64(magnitude)
	case integer < 0:
		magnitude = -magnitude
	}
	if magnitude != 0 && bits.Len64(magnitude)-bits.TrailingZeros64(magnitude) > 53 {
		return CodeRange
	}
	if exp10 < 0 {
		number /= pow10[-exp10]
	} else {
		number *= pow10[exp10]
	}
	v.Kind, v.Number = ValueNumber, number
	return 0
}

func (v *Value) setBool(truth bool) {
	v.Kind = ValueBool
	if truth {
		v.Number = 1
	}
}

// setText refuses what is too long and what Postgres can't store as text
// (PROTOCOL §5.9.4).
func (v *Value) setText(text []byte, maximum int) Code {
	if len(text) > maximum || !isText(text) {
		return CodeString
	}
	v.Kind, v.Text = ValueText, text
	return 0
}
