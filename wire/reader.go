package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// reader reads single MessagePack values of one frame, and the fields of the
// frame's array. The library converts silently (nil to 0, uint64 to int64, bin
// to string) and trusts lengths, so every read looks at the code first and
// checks counts against the bytes left.
//
// The methods that take a field's name keep the first fault in err and then
// answer zero, so that a frame reads like a list of its fields.
type reader struct {
	frame  []byte
	src    bytes.Reader
	dec    *msgpack.Decoder
	fields int // elements of the frame's array not yet read

	field string // where err happened
	err   error
}

func (r *reader) reset(frame []byte) {
	r.frame = frame
	r.src.Reset(frame)
	r.dec.ResetReader(&r.src)
	r.fields, r.field, r.err = 0, "", nil
}

// release lets go of the frame, whose buffer is not ours.
func (r *reader) release() { r.reset(nil) }

func (r *reader) left() int { return r.src.Len() }

func (r *reader) pos() int { return len(r.frame) - r.src.Len() }

func (r *reader) seek(pos int) {
	// Seek fails only on negative positions, and pos comes from pos().
	_, _ = r.src.Seek(int64(pos), io.SeekStart)
}

func (r *reader) fail(field string, err error) {
	if r.err == nil {
		r.field, r.err = field, cutShort(err)
	}
}

// cutShort names the end of the frame, which the library reports as EOF.
func cutShort(err error) error {
	if err != nil && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
		return ErrTruncated
	}
	return err
}

// peek gives the code of the next value without moving.
func (r *reader) peek() (byte, error) {
	left := r.src.Len()
	if left == 0 {
		return 0, ErrTruncated
	}
	return r.frame[len(r.frame)-left], nil
}

// array reads an array's header. Every element takes a byte at least, so a
// count beyond the bytes left is a lie (PROTOCOL §3.3).
func (r *reader) array() (int, error) {
	code, err := r.peek()
	if err != nil {
		return 0, err
	}
	switch {
	case msgpcode.IsFixedArray(code) || code == msgpcode.Array16:
	case isWide(code):
		return 0, ErrWideLength // PROTOCOL §3.4
	default:
		return 0, errNotArray
	}
	count, err := r.dec.DecodeArrayLen()
	if err != nil {
		return 0, cutShort(err)
	}
	if count > r.left() {
		return 0, errMoreThanFit
	}
	return count, nil
}

// integer reads an integer of any width. If big, it lies above the int64
// range and value holds its bits.
func (r *reader) integer() (value int64, big bool, err error) {
	code, err := r.peek()
	if err != nil {
		return 0, false, err
	}
	if !isInteger(code) {
		if isWide(code) {
			return 0, false, ErrWideLength // PROTOCOL §3.4
		}
		return 0, false, errNotInteger
	}
	if msgpcode.IsFixedNum(code) {
		_, err := r.take(0)
		return int64(int8(code)), false, err
	}
	// Codes of unsigned and of signed integers follow each other, by width.
	signed := code >= msgpcode.Int8
	width := 1 << (code - msgpcode.Uint8)
	if signed {
		width = 1 << (code - msgpcode.Int8)
	}
	bytes, err := r.take(width)
	if err != nil {
		return 0, false, err
	}
	var bits uint64
	for _, b := range bytes {
		bits = bits<<8 | uint64(b)
	}
	if signed {
		unused := 64 - 8*width
		return int64(bits<<unused) >> unused, false, nil
	}
	return int64(bits), bits > math.MaxInt64, nil
}

// take passes over a value's code and gives the bytes behind it, which alias
// the frame. Numbers are most of what is read: for them this takes half the
// time of the library's way through an io.Reader.
func (r *reader) take(size int) ([]byte, error) {
	left := r.src.Len()
	if left < 1+size {
		return nil, ErrTruncated
	}
	start := len(r.frame) - left + 1
	r.seek(start + size)
	return r.frame[start : start+size], nil
}

// float32 reads a value whose code is Float.
func (r *reader) float32() (float32, error) {
	bytes, err := r.take(4)
	if err != nil {
		return 0, err
	}
	return math.Float32frombits(binary.BigEndian.Uint32(bytes)), nil
}

// float64 reads a value whose code is Double.
func (r *reader) float64() (float64, error) {
	bytes, err := r.take(8)
	if err != nil {
		return 0, err
	}
	return math.Float64frombits(binary.BigEndian.Uint64(bytes)), nil
}

// str reads a string's bytes, which alias the frame.
func (r *reader) str() ([]byte, error) {
	code, err := r.peek()
	if err != nil {
		return nil, err
	}
	if !isString(code) {
		if isWide(code) {
			return nil, ErrWideLength // PROTOCOL §3.4
		}
		return nil, errNotString
	}
	length, err := r.dec.DecodeBytesLen()
	if err != nil {
		return nil, cutShort(err)
	}
	if length > r.left() {
		return nil, ErrTruncated
	}
	pos := r.pos()
	r.seek(pos + length)
	return r.frame[pos : pos+length : pos+length], nil
}

// skip passes over one value that lies in level arrays and maps.
func (r *reader) skip(level int) error {
	pos, err := skipValue(r.frame, r.pos(), level)
	if err != nil {
		return err
	}
	r.seek(pos)
	return nil
}

// open reads the head of a frame that must be of this type.
func (r *reader) open(frame []byte, want FrameType) {
	r.reset(frame)
	kind, err := FrameTypeOf(frame)
	if err != nil {
		r.err = err
		return
	}
	if kind != want {
		r.fail("type", fmt.Errorf("is %d, not %d", kind, want))
		return
	}
	count, err := r.array()
	if err != nil {
		r.fail("", err)
		return
	}
	if _, _, err = r.integer(); err != nil {
		r.fail("type", err)
		return
	}
	r.fields = count - 1
}

// end passes over fields of later versions and sees that nothing follows
// (PROTOCOL §3.2).
func (r *reader) end() {
	for r.err == nil && r.fields > 0 {
		r.fields--
		if err := r.skip(1); err != nil {
			r.fail("extra field", err)
		}
	}
	if r.err == nil && r.left() > 0 {
		r.fail("", ErrTrailing)
	}
}

// frameError turns the first fault into what closes the connection.
func (r *reader) frameError() error {
	if r.err == nil {
		return nil
	}
	if fault, ok := errors.AsType[*FrameError](r.err); ok {
		return fault
	}
	return &FrameError{Close: CloseBadFrame, Field: r.field, Err: r.err}
}

// present reports whether the next field holds something. Nil and a missing
// tail mean absent (PROTOCOL §3.2).
func (r *reader) present(field string) bool {
	if r.err != nil || r.fields == 0 {
		return false
	}
	r.fields--
	code, err := r.peek()
	if err != nil {
		r.fail(field, err)
		return false
	}
	if code == msgpcode.Nil {
		if err := r.dec.DecodeNil(); err != nil {
			r.fail(field, err)
		}
		return false
	}
	return true
}

// required is present, with absence as a fault.
func (r *reader) required(field string) bool {
	if r.present(field) {
		return true
	}
	r.fail(field, errAbsent)
	return false
}

// number reads an integer from minimum to maximum.
func (r *reader) number(field string, minimum, maximum int64) int64 {
	if r.err != nil {
		return 0
	}
	value, big, err := r.integer()
	switch {
	case err != nil:
		r.fail(field, err)
	case big || value < minimum || value > maximum:
		r.fail(field, fmt.Errorf("must be from %d to %d", minimum, maximum))
	default:
		return value
	}
	return 0
}

// optional reads an integer from minimum to maximum; absent, it is fallback.
func (r *reader) optional(field string, minimum, maximum, fallback int64) int64 {
	if !r.present(field) {
		return fallback
	}
	return r.number(field, minimum, maximum)
}

// mandatory reads an integer from minimum to maximum that must be there.
func (r *reader) mandatory(field string, minimum, maximum int64) int64 {
	if !r.required(field) {
		return 0
	}
	return r.number(field, minimum, maximum)
}

// echo reads an unsigned integer of 64 bits; absent, it is 0.
func (r *reader) echo(field string) uint64 {
	if !r.present(field) {
		return 0
	}
	value, big, err := r.integer()
	switch {
	case err != nil:
		r.fail(field, err)
	case !big && value < 0:
		r.fail(field, errNegative)
	default:
		return uint64(value)
	}
	return 0
}

// text copies a string of at most maximum bytes; absent, it is empty.
func (r *reader) text(field string, maximum int) string {
	if !r.present(field) {
		return ""
	}
	content, err := r.str()
	switch {
	case err != nil:
		r.fail(field, err)
	case len(content) > maximum:
		r.fail(field, fmt.Errorf("is longer than %d bytes", maximum))
	case !isText(content):
		r.fail(field, errUTF8)
	default:
		return string(content)
	}
	return ""
}

// raw copies one value as it stands; absent, it is nil.
func (r *reader) raw(field string) []byte {
	if !r.present(field) {
		return nil
	}
	start := r.pos()
	if err := r.skip(1); err != nil {
		r.fail(field, err)
		return nil
	}
	return bytes.Clone(r.frame[start:r.pos()])
}

// isText reports whether Postgres can store it as text: UTF-8 without U+0000.
func isText(content []byte) bool {
	return utf8.Valid(content) && bytes.IndexByte(content, 0) < 0
}

// isName reports whether the name is of the form that PROTOCOL §4.3 asks for.
func isName(name []byte) bool {
	if len(name) == 0 || len(name) > MaxName {
		return false
	}
	for _, c := range name {
		if !isNameByte(c) {
			return false
		}
	}
	return true
}

// IsName reports whether a layout, a channel or a command may have the name
// (PROTOCOL §4.3).
func IsName(name string) bool { return isName([]byte(name)) }

func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		strings.IndexByte("_.-/", c) >= 0
}

func isInteger(code byte) bool {
	return msgpcode.IsFixedNum(code) || code >= msgpcode.Uint8 && code <= msgpcode.Int64
}

func isString(code byte) bool {
	return msgpcode.IsFixedString(code) || code == msgpcode.Str8 || code == msgpcode.Str16
}

// isWide reports whether the code announces a 32-bit length, which no frame
// needs and which could ask for 4 GiB (PROTOCOL §3.4).
func isWide(code byte) bool {
	switch code {
	case msgpcode.Array32, msgpcode.Map32, msgpcode.Str32, msgpcode.Bin32, msgpcode.Ext32:
		return true
	}
	return false
}
