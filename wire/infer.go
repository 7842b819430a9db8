package wire

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// inferredLayout is a layout that DATA declared by its channels' names.
type inferredLayout struct {
	raw       []byte // the names as they came, which is how they are found again
	names     []string
	layout    Layout
	undecided []int // channels whose kind no value has shown yet
}

// names reads the channel names that stand in the place of a layout's number
// (PROTOCOL §5.3) and finds or makes their layout. A list that came before
// costs a comparison of its bytes and no memory.
func (d *Decoder) names() []string {
	r := &d.read
	rest := r.frame[r.pos():]
	for i := range d.inferred {
		if known := &d.inferred[i]; bytes.HasPrefix(rest, known.raw) {
			r.seek(r.pos() + len(known.raw))
			d.current = i
			return known.names
		}
	}
	start := r.pos()
	names, code, err := d.readNames()
	if err != nil {
		d.refuse(code, "layout", err)
		return nil
	}
	if len(d.inferred) == d.limits.MaxInferred {
		d.refuse(CodeQuota, "layout", fmt.Errorf("a connection has at most %d layouts", d.limits.MaxInferred))
		return nil
	}
	channels := make([]Channel, len(names))
	undecided := make([]int, len(names))
	for i, name := range names {
		channels[i].Name = name
		undecided[i] = i
	}
	d.inferred = append(d.inferred, inferredLayout{
		raw:       bytes.Clone(r.frame[start:r.pos()]),
		names:     names,
		layout:    Layout{Number: d.nextInferred, Channels: channels},
		undecided: undecided,
	})
	d.nextInferred++
	d.current = len(d.inferred) - 1
	return names
}

func (d *Decoder) readNames() ([]string, Code, error) {
	r := &d.read
	count, err := r.array()
	if err != nil {
		return nil, CodeMalformed, err
	}
	if err := d.checkChannelCount(count); err != nil {
		return nil, CodeRange, err
	}
	names := make([]string, 0, count)
	seen := make(map[string]struct{}, count)
	for range count {
		name, err := r.str()
		if err != nil {
			return nil, structureCode(err), err
		}
		if !isName(name) {
			return nil, CodeName, errName // PROTOCOL §4.3
		}
		if _, twice := seen[string(name)]; twice {
			return nil, CodeName, errTwice
		}
		names = append(names, string(name))
		seen[names[len(names)-1]] = struct{}{}
	}
	return names, 0, nil
}

// InferLayout gives the layout that a DATA frame with names declares on the
// fly. Call it between DataHead and Rows. The error is a *BodyError.
//
// A channel's kind is that of its first value other than nil on the connection;
// until one comes it is KindNumber (PROTOCOL §5.3). Layout.Number is
// FirstInferred or more and stands for this content alone as long as the
// decoder lives, so it serves as a key as declared numbers do. Channels is
// shared and must not be changed.
func (d *Decoder) InferLayout(head DataHead) (Layout, error) {
	if d.data.fault != nil {
		return Layout{}, d.data.fault
	}
	if d.current < 0 || !d.data.ready || len(head.Names) == 0 {
		d.refuse(CodeUnknownLayout, "layout", errAbsent)
		return Layout{}, d.data.fault
	}
	known := &d.inferred[d.current]
	if len(known.undecided) == 0 {
		return known.layout, nil
	}
	d.read.seek(d.data.valuesAt)
	if err := d.inferKinds(known); err != nil {
		d.refuse(CodeMalformed, "vals", err)
		return Layout{}, d.data.fault
	}
	return known.layout, nil
}

// inferKinds looks through the values for the kinds not yet known.
func (d *Decoder) inferKinds(known *inferredLayout) error {
	channels := len(known.names)
	if err := d.openValues(channels); err != nil {
		return err
	}
	if d.data.packed.kind != PackNone {
		return nil // numbers, as an undecided channel is anyway
	}
	kinds := make([]Kind, channels)
	decided := make([]bool, channels)
	for i := range known.layout.Channels {
		kinds[i], decided[i] = known.layout.Channels[i].Kind, true
	}
	for _, i := range known.undecided {
		decided[i] = false
	}
	for range d.head.N {
		if d.head.Step == 0 {
			if err := d.read.skip(valueDepth); err != nil {
				return err
			}
		}
		for i := range channels {
			code, err := d.read.peek()
			if err != nil {
				return err
			}
			if kind, shown := kindOf(code); shown && !decided[i] {
				kinds[i], decided[i] = kind, true
			}
			if err := d.read.skip(valueDepth); err != nil {
				return err
			}
		}
	}
	d.adopt(known, kinds, decided)
	return nil
}

// adopt takes over the kinds found. Content that changed is another layout:
// it gets its own channels and number.
func (d *Decoder) adopt(known *inferredLayout, kinds []Kind, decided []bool) {
	known.undecided = slices.DeleteFunc(known.undecided, func(i int) bool { return decided[i] })
	changed := false
	for i := range known.layout.Channels {
		changed = changed || known.layout.Channels[i].Kind != kinds[i]
	}
	if !changed {
		return
	}
	channels := slices.Clone(known.layout.Channels)
	for i := range channels {
		channels[i].Kind = kinds[i]
	}
	known.layout = Layout{Number: d.nextInferred, Channels: channels}
	d.nextInferred++
}

// kindOf is the kind of channel that takes a value that begins with this code.
func kindOf(code byte) (Kind, bool) {
	switch {
	case isInteger(code), code == msgpcode.Float, code == msgpcode.Double:
		return KindNumber, true
	case code == msgpcode.True, code == msgpcode.False:
		return KindBool, true
	case isString(code):
		return KindText, true
	}
	return 0, false
}
