package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// Faults of layouts.
var (
	errName      = errors.New("a name has 1 to 64 bytes of A-Z a-z 0-9 _ . - /")
	errTwice     = errors.New("a name stands twice in the layout")
	errUnit      = errors.New("a unit has at most 64 bytes of UTF-8 without U+0000")
	errKind      = errors.New("a kind is 0, 1 or 2")
	errExp10     = errors.New("exp10 is from -9 to 9")
	errNoChannel = errors.New("a layout has at least one channel")
)

// Largest magnitude of Channel.Exp10.
const maxExp10 = 9

// Layout decodes a LAYOUT (PROTOCOL §4.2). The error is a *FrameError if the
// layout's number can't be read, else a *LayoutError.
func (d *Decoder) Layout(frame []byte) (Layout, error) {
	r := d.begin(frame, FrameLayout)
	number := uint32(r.mandatory("layout", 0, MaxLayoutNumber))
	if err := r.frameError(); err != nil {
		r.release()
		return Layout{}, err
	}
	layout, fault := d.layoutBody(number)
	r.release()
	if fault != nil {
		return Layout{Number: number}, fault
	}
	return layout, nil
}

func (d *Decoder) layoutBody(number uint32) (Layout, *LayoutError) {
	r := &d.read
	refuse := func(channel int, code Code, err error) (Layout, *LayoutError) {
		return Layout{}, &LayoutError{Layout: number, Channel: channel, Code: code, Err: err}
	}
	layout := Layout{Number: number}
	if r.present("name") {
		name, err := r.str()
		if err != nil {
			return refuse(WholeRow, structureCode(err), fmt.Errorf("name: %w", err))
		}
		if !isName(name) {
			return refuse(WholeRow, CodeName, errName) // PROTOCOL §4.3
		}
		layout.Name = string(name)
	}
	if !r.required("channels") {
		return refuse(WholeRow, CodeMalformed, fmt.Errorf("%s: %w", r.field, r.err))
	}
	count, err := r.array()
	if err != nil {
		return refuse(WholeRow, structureCode(err), fmt.Errorf("channels: %w", err))
	}
	if err := d.checkChannelCount(count); err != nil {
		return refuse(WholeRow, CodeRange, err)
	}
	layout.Channels = make([]Channel, count)
	names := make(map[string]struct{}, count)
	for i := range count {
		code, err := r.channel(&layout.Channels[i])
		switch {
		case err == nil:
		case code == CodeMalformed: // it is the frame that can't be read
			return refuse(WholeRow, code, fmt.Errorf("channel %d: %w", i, err))
		default:
			return refuse(i, code, err)
		}
		name := layout.Channels[i].Name
		if _, twice := names[name]; twice {
			return refuse(i, CodeName, errTwice) // PROTOCOL §4.3
		}
		names[name] = struct{}{}
	}
	if r.end(); r.err != nil {
		return refuse(WholeRow, CodeMalformed, r.err)
	}
	return layout, nil
}

// checkChannelCount enforces PROTOCOL §10.1.
func (d *Decoder) checkChannelCount(count int) error {
	if count == 0 {
		return errNoChannel
	}
	if count > d.limits.MaxChannels {
		return fmt.Errorf("a layout has at most %d channels", d.limits.MaxChannels)
	}
	return nil
}

// channel reads [name, unit, kind, exp10].
func (r *reader) channel(channel *Channel) (Code, error) {
	left, err := r.array()
	if err != nil {
		return structureCode(err), err
	}
	if left == 0 {
		return CodeName, errName
	}
	// The channel's own array stands in for the frame's while it is read.
	outer := r.fields
	r.fields = left
	defer func() { r.fields = outer }()

	if !r.present("name") {
		return CodeName, errName
	}
	name, err := r.str()
	if err != nil {
		return structureCode(err), err
	}
	if !isName(name) {
		return CodeName, errName // PROTOCOL §4.3
	}
	channel.Name = string(name)
	if r.present("unit") {
		unit, err := r.str()
		if err != nil {
			return structureCode(err), err
		}
		if len(unit) > MaxName || !isText(unit) {
			return CodeString, errUnit
		}
		channel.Unit = string(unit)
	}
	if r.present("kind") {
		kind, big, err := r.integer()
		if err != nil {
			return structureCode(err), err
		}
		if big || kind < 0 || kind > int64(KindText) {
			return CodeUnsupported, errKind
		}
		channel.Kind = Kind(kind)
	}
	if r.present("exp10") {
		exp10, big, err := r.integer()
		if err != nil {
			return structureCode(err), err
		}
		if big || exp10 < -maxExp10 || exp10 > maxExp10 {
			return CodeRange, errExp10
		}
		channel.Exp10 = int8(exp10)
	}
	for r.err == nil && r.fields > 0 {
		r.fields--
		if err := r.skip(3); err != nil {
			return CodeMalformed, err
		}
	}
	return CodeMalformed, r.err
}

// structureCode tells a value of the wrong type from a broken frame.
func structureCode(err error) Code {
	switch {
	case errors.Is(err, errNotArray), errors.Is(err, errNotInteger), errors.Is(err, errNotString):
		return CodeType
	}
	return CodeMalformed
}

// DefaultLayoutName is the name of a layout whose declaration gives none: the
// model from HELLO, with "_" for each byte that names can't hold, or "default"
// if there is no model (PROTOCOL §4.3).
func DefaultLayoutName(model string) string {
	if model == "" {
		return "default"
	}
	name := []byte(model)
	for i, c := range name {
		if !isNameByte(c) {
			name[i] = '_'
		}
	}
	return string(name[:min(len(name), MaxName)])
}

// FingerprintLayout is the identity of a layout's content: SHA-256 over its
// name and each channel's name, unit and kind, in order, each string behind
// its length. Exp10 is left out, since it says how a value travels and not
// what is stored; so is the number, which is a connection's own (decision 011).
func FingerprintLayout(name string, channels []Channel) [32]byte {
	form := append(make([]byte, 0, 64+32*len(channels)), "mooring.layout.1"...)
	form = appendSized(form, name)
	for i := range channels {
		form = appendSized(form, channels[i].Name)
		form = appendSized(form, channels[i].Unit)
		form = append(form, byte(channels[i].Kind))
	}
	return sha256.Sum256(form)
}

func appendSized(form []byte, text string) []byte {
	form = binary.AppendUvarint(form, uint64(len(text)))
	return append(form, text...)
}
