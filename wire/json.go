package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// maxShort is the largest count and size that 16 bits hold: frames carry no
// 32-bit lengths (PROTOCOL §3.4).
const maxShort = math.MaxUint16

// ValueFromJSON makes the MessagePack value, as frames carry it in args and
// detail, that a JSON text stands for. Numbers without fraction and exponent
// that fit 64 bits become integers, others float64; the keys of objects come in
// their own order. The error says what can't be carried.
func ValueFromJSON(text []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, fmt.Errorf("no JSON: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	e := NewEncoder()
	if err := e.json(value, 1); err != nil {
		return nil, err
	}
	return e.buffer.bytes, nil
}

// json encodes what encoding/json decoded; the value lies in level arrays and
// maps, the frame's own among them.
func (e *Encoder) json(value any, level int) error {
	switch value := value.(type) {
	case nil:
		e.null()
	case bool:
		e.bool(value)
	case string:
		if len(value) > maxShort {
			return fmt.Errorf("a string of %d bytes; at most %d are allowed", len(value), maxShort)
		}
		e.string(value)
	case json.Number:
		return e.jsonNumber(value)
	case []any:
		if err := fits(len(value), level); err != nil {
			return err
		}
		e.array(len(value))
		for _, element := range value {
			if err := e.json(element, level+1); err != nil {
				return err
			}
		}
	case map[string]any:
		if err := fits(len(value), level); err != nil {
			return err
		}
		_ = e.out.EncodeMapLen(len(value)) // its errors are those of its writer, and buffer has none
		for _, key := range slices.Sorted(maps.Keys(value)) {
			if err := e.json(key, level); err != nil {
				return err
			}
			if err := e.json(value[key], level+1); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
	}
	return nil
}

// fits checks an array or a map that lies in level others.
func fits(count, level int) error {
	if level+1 > MaxDepth {
		return ErrDepth
	}
	if count > maxShort {
		return fmt.Errorf("%d elements; at most %d are allowed", count, maxShort)
	}
	return nil
}

func (e *Encoder) jsonNumber(number json.Number) error {
	if integer, err := strconv.ParseInt(string(number), 10, 64); err == nil {
		e.int(integer)
		return nil
	}
	if integer, err := strconv.ParseUint(string(number), 10, 64); err == nil {
		e.uint(integer)
		return nil
	}
	float, err := number.Float64()
	if err != nil {
		return fmt.Errorf("the number %s is out of range", number)
	}
	e.float64(float)
	return nil
}

// ValueToJSON makes JSON of a MessagePack value from a frame's args or detail.
// What JSON lacks becomes a string: NaN and the infinities by their names, binary
// in base64; extensions become {"ext": type, "data": base64}, and a map's key
// that is no string is written as JSON in a string. Invalid UTF-8, and U+0000,
// which Postgres does not store, become U+FFFD. The error is ValidateValue's.
func ValueToJSON(value []byte) ([]byte, error) {
	if err := ValidateValue(value); err != nil {
		return nil, err
	}
	// Checked from end to end: no length in it exceeds the bytes there are.
	return appendJSON(nil, msgpack.NewDecoder(bytes.NewReader(value)))
}

func appendJSON(dst []byte, value *msgpack.Decoder) ([]byte, error) {
	code, err := value.PeekCode()
	if err != nil {
		return nil, err
	}
	switch {
	case code == msgpcode.Nil:
		return append(dst, "null"...), value.DecodeNil()
	case code == msgpcode.True || code == msgpcode.False:
		truth, err := value.DecodeBool()
		return strconv.AppendBool(dst, truth), err
	case code == msgpcode.Uint64:
		integer, err := value.DecodeUint64()
		return strconv.AppendUint(dst, integer, 10), err
	case isInteger(code):
		integer, err := value.DecodeInt64()
		return strconv.AppendInt(dst, integer, 10), err
	case code == msgpcode.Float || code == msgpcode.Double:
		float, err := value.DecodeFloat64()
		return appendJSONFloat(dst, float), err
	case msgpcode.IsString(code):
		text, err := value.DecodeString()
		return appendJSONText(dst, text), err
	case msgpcode.IsBin(code):
		raw, err := value.DecodeBytes()
		return appendJSONText(dst, base64.StdEncoding.EncodeToString(raw)), err
	case msgpcode.IsExt(code):
		kind, size, err := value.DecodeExtHeader()
		if err != nil {
			return nil, err
		}
		raw := make([]byte, size)
		err = value.ReadFull(raw)
		return fmt.Appendf(dst, `{"ext":%d,"data":"%s"}`, kind, base64.StdEncoding.EncodeToString(raw)), err
	case msgpcode.IsFixedArray(code) || code == msgpcode.Array16:
		return appendJSONArray(dst, value)
	default: // a map: nothing else is left
		return appendJSONObject(dst, value)
	}
}

func appendJSONArray(dst []byte, value *msgpack.Decoder) ([]byte, error) {
	count, err := value.DecodeArrayLen()
	if err != nil {
		return nil, err
	}
	dst = append(dst, '[')
	for i := range count {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = appendJSON(dst, value); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

func appendJSONObject(dst []byte, value *msgpack.Decoder) ([]byte, error) {
	count, err := value.DecodeMapLen()
	if err != nil {
		return nil, err
	}
	dst = append(dst, '{')
	for i := range count {
		if i > 0 {
			dst = append(dst, ',')
		}
		key, err := appendJSON(nil, value)
		if err != nil {
			return nil, err
		}
		if key[0] != '"' {
			key = appendJSONText(nil, string(key))
		}
		dst = append(append(dst, key...), ':')
		if dst, err = appendJSON(dst, value); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

func appendJSONFloat(dst []byte, float float64) []byte {
	if math.IsNaN(float) || math.IsInf(float, 0) {
		return appendJSONText(dst, strconv.FormatFloat(float, 'g', -1, 64))
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, float, 'g', -1, 64)
	if !bytes.ContainsAny(dst[start:], ".e") {
		dst = append(dst, ".0"...) // it comes back as what it was
	}
	return dst
}

func appendJSONText(dst []byte, text string) []byte {
	clean := bytes.ReplaceAll([]byte(text), []byte{0}, []byte("\uFFFD"))
	encoded, _ := json.Marshal(string(clean)) // a string always has a form
	return append(dst, encoded...)
}
