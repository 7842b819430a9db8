package fleet

import (
	"bytes"
	"math"
	"strconv"

	"mooring/wire"
)

// Plan is what the rows of a whole run are computed from, together with Boot.
type Plan struct {
	Run      uint32 // a random number, so that the rows of other runs are known as such
	Seed     uint64
	Channels int
	// Float32 is for devices without float64, as in firmware: numbers that others
	// send as that are rounded to float32.
	Float32 bool
	// Refusals has one row in so many carry something that the server must
	// refuse; 0: none does.
	Refusals uint64
}

// LayoutName is the layout of all simulated devices.
const LayoutName = "fleet"

// maxBoots is the number of boots of one device that a row can tell apart.
const maxBoots = 1 << 10

// shape is what a channel measures.
type shape struct {
	channel           wire.Channel
	center, amplitude float64
}

// The channels after the first, again and again with a number behind the name.
var shapes = [...]shape{
	{wire.Channel{Name: "temperature", Unit: "°C"}, 21, 6},
	{wire.Channel{Name: "pressure", Unit: "hPa", Exp10: -2}, 1013, 12},
	{wire.Channel{Name: "humidity", Unit: "%"}, 48, 20},
	{wire.Channel{Name: "voltage", Unit: "V"}, 3.3, 0.2},
	{wire.Channel{Name: "valve", Kind: wire.KindBool}, 0, 0},
	{wire.Channel{Name: "state", Kind: wire.KindText}, 0, 0},
}

// Positions of the shapes.
const (
	shapeTemperature = iota // sent as float64
	shapePressure           // as integers of 0.01 hPa
	shapeHumidity           // as float32
	shapeVoltage            // as float64, now and then nil
	shapeValve
	shapeState
)

var states = [...]string{"idle", "heating", "cooling", "höhere Gewalt", "", "fault: no flow"}

func shapeOf(channel int) int { return (channel - 1) % len(shapes) }

// Layout is the layout of a run's rows. The first channel is the row's origin:
// the run and the boot it belongs to.
func (p *Plan) Layout() wire.Layout {
	layout := wire.Layout{Name: LayoutName, Channels: []wire.Channel{{Name: "origin"}}}
	for i := 1; i < p.Channels; i++ {
		channel := shapes[shapeOf(i)].channel
		if round := (i - 1) / len(shapes); round > 0 {
			channel.Name += "_" + strconv.Itoa(round+1)
		}
		layout.Channels = append(layout.Channels, channel)
	}
	return layout
}

// Origin is the value of the first channel.
func (p *Plan) Origin(boot int) int64 { return int64(p.Run)*maxBoots + int64(boot) }

// originOf is the run and the boot that a stored first value names; false: it is
// no origin.
func originOf(value wire.Value) (run uint32, boot int, ok bool) {
	if value.Kind != wire.ValueNumber || value.Number != math.Trunc(value.Number) ||
		value.Number < 0 || value.Number >= 1<<42 {
		return 0, 0, false
	}
	number := int64(value.Number)
	return uint32(number / maxBoots), int(number % maxBoots), true
}

// bootOf is the boot that a stored first value names; false: none of this run.
func (p *Plan) bootOf(value wire.Value) (int, bool) {
	run, boot, ok := originOf(value)
	return boot, ok && run == p.Run
}

// Boot is one life of a simulated device, from power-on to power-off. Rows are
// numbered from 0.
type Boot struct {
	Device string `json:"device"`
	Index  int    `json:"index"` // of the device in the run
	Number int    `json:"boot"`  // of the boot, from 0
	BootID uint32 `json:"boot_id"`
	Base   int64  `json:"base"`      // ms since 1970 of row 0
	Period int64  `json:"period_us"` // between rows
	// Coarse is the step of the device's clock in ms: a clock of whole seconds
	// gives many rows one time.
	Coarse int64 `json:"coarse_ms"`
	// Off is the code with which the server must refuse every row, because the
	// device's clock is years off; 0: it is not.
	Off wire.Code `json:"off,omitempty"`
	// Jumps are leaps of its clock, in the order of From.
	Jumps []Jump `json:"jumps,omitempty"`
}

// Jump is a leap of a device's clock: from this row on it is off by Offset.
type Jump struct {
	From   uint64 `json:"from"`
	Offset int64  `json:"offset_ms"`
}

// Refusal is what the server must say about a row.
type Refusal struct {
	Channel int // or wire.WholeRow
	Code    wire.Code
}

// Salts keep the random numbers of different purposes apart.
const (
	saltValue   = 0x9e3779b97f4a7c15
	saltRefusal = 0xbf58476d1ce4e5b9
)

// mix is splitmix64's finalizer: every bit of x decides about every bit out.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// random is a number that (seed, device, boot, row, channel) decide.
func (p *Plan) random(b *Boot, seq uint64, channel int) uint64 {
	row := mix(p.Seed ^ mix(uint64(b.Index)<<20^uint64(b.Number)^saltValue) ^ mix(seq))
	return mix(row + uint64(channel)*saltValue)
}

// Times that no server takes whatever its flags: 1990, and a year ahead.
const (
	longAgo  = 631152000000
	yearMs   = 365 * 24 * 3600 * 1000
	hugeInt  = 1<<53 + 1 // not exact in a float64
	longText = 300
)

// clock is what the device's clock says at a row, in ms since 1970.
func (b *Boot) clock(seq uint64) int64 {
	elapsed := int64(seq) * b.Period / 1000
	if b.Coarse > 1 {
		elapsed -= elapsed % b.Coarse
	}
	offset := int64(0)
	for i := range b.Jumps {
		if b.Jumps[i].From > seq {
			break
		}
		offset = b.Jumps[i].Offset
	}
	return b.Base + elapsed + offset
}

// Time is a row's time in ms since 1970.
func (p *Plan) Time(b *Boot, seq uint64) int64 {
	if refusal, refused := p.Refusal(b, seq); refused && refusal.Channel == wire.WholeRow && b.Off == 0 {
		if refusal.Code == wire.CodeTimePast {
			return longAgo + int64(seq%1000)
		}
		return b.Base + yearMs + int64(seq%1000)
	}
	return b.clock(seq)
}

// Refusal tells what the server must refuse of a row, if anything.
func (p *Plan) Refusal(b *Boot, seq uint64) (Refusal, bool) {
	switch {
	case b.Off != 0:
		return Refusal{wire.WholeRow, b.Off}, true
	case p.Refusals == 0:
		return Refusal{}, false
	}
	dice := mix(p.Seed ^ mix(uint64(b.Index)<<20^uint64(b.Number)^saltRefusal) ^ mix(seq+saltRefusal))
	if dice%p.Refusals != 0 {
		return Refusal{}, false
	}
	dice /= p.Refusals
	if p.Channels == 1 || dice%5 == 0 {
		if dice>>16&1 == 0 {
			return Refusal{wire.WholeRow, wire.CodeTimePast}, true
		}
		return Refusal{wire.WholeRow, wire.CodeTimeFuture}, true
	}
	channel := 1 + int(dice>>20%uint64(p.Channels-1))
	variant := dice >> 50
	switch shapeOf(channel) {
	case shapeValve:
		return Refusal{channel, wire.CodeType}, true
	case shapeState:
		if variant%2 == 0 {
			return Refusal{channel, wire.CodeType}, true
		}
		return Refusal{channel, wire.CodeString}, true
	default:
		codes := [...]wire.Code{wire.CodeNotFinite, wire.CodeType, wire.CodeRange}
		return Refusal{channel, codes[variant%3]}, true
	}
}

// spoiled is a value that the server must refuse with this code.
func spoiled(channel int, code wire.Code, dice uint64) wire.Value {
	switch code {
	case wire.CodeNotFinite:
		if dice&1 == 0 {
			return wire.Value{Kind: wire.ValueNumber, Number: math.NaN()}
		}
		return wire.Value{Kind: wire.ValueNumber, Number: math.Inf(1)}
	case wire.CodeRange:
		return wire.Value{Kind: wire.ValueInt, Int: hugeInt}
	case wire.CodeString:
		texts := [...][]byte{tooLong, {'a', 0, 'b'}, {0xff, 0xfe}}
		return wire.Value{Kind: wire.ValueText, Text: texts[dice%3]}
	default: // CodeType
		if kind := shapeOf(channel); kind == shapeValve || kind == shapeState {
			return wire.Value{Kind: wire.ValueNumber, Number: 1}
		}
		return wire.Value{Kind: wire.ValueText, Text: []byte("warm")}
	}
}

var tooLong = bytes.Repeat([]byte{'x'}, longText)

// AppendSent appends a row's values as the device sends them, one for each
// channel.
func (p *Plan) AppendSent(values []wire.Value, b *Boot, seq uint64) []wire.Value {
	from := len(values)
	values = append(values, wire.Value{Kind: wire.ValueInt, Int: p.Origin(b.Number)})
	for channel := 1; channel < p.Channels; channel++ {
		values = append(values, p.measured(b, seq, channel))
	}
	if refusal, refused := p.Refusal(b, seq); refused && refusal.Channel > 0 {
		values[from+refusal.Channel] = spoiled(refusal.Channel, refusal.Code, p.random(b, seq, refusal.Channel))
	}
	return values
}

// AppendStored appends a row's values as they must come out of the database.
func (p *Plan) AppendStored(values []wire.Value, b *Boot, seq uint64) []wire.Value {
	values = append(values, wire.Value{Kind: wire.ValueNumber, Number: float64(p.Origin(b.Number))})
	refusal, refused := p.Refusal(b, seq)
	for channel := 1; channel < p.Channels; channel++ {
		value := p.measured(b, seq, channel)
		switch value.Kind {
		case wire.ValueInt:
			// The exponent is -2, and the receiver divides.
			value = wire.Value{Kind: wire.ValueNumber, Number: float64(value.Int) / 100}
		case wire.ValueFloat32:
			value = wire.Value{Kind: wire.ValueNumber, Number: float64(float32(value.Number))}
		case wire.ValueNil, wire.ValueNumber, wire.ValueBool, wire.ValueText:
		}
		if refused && refusal.Channel == channel {
			value = wire.Value{}
		}
		values = append(values, value)
	}
	return values
}

// measured is what the sensor of a channel gives for a row.
func (p *Plan) measured(b *Boot, seq uint64, channel int) wire.Value {
	random := p.random(b, seq, channel)
	kind := shapeOf(channel)
	switch kind {
	case shapeValve:
		return wire.Value{Kind: wire.ValueBool, Number: float64(seq / 16 % 2)}
	case shapeState:
		return wire.Value{Kind: wire.ValueText, Text: stateTexts[random%uint64(len(stateTexts))]}
	case shapeVoltage:
		if random%31 == 0 {
			return wire.Value{}
		}
	}
	// A wave of its own for each device, and noise of a twentieth of it. The
	// conversions keep compilers from fusing operations, so that every machine
	// computes the same.
	phase := float64((seq+uint64(b.Index)*37)%600) / 600
	wave := float64(4*math.Abs(phase-0.5)) - 1
	noise := float64(random>>11)/(1<<53) - 0.5
	number := shapes[kind].center + float64(shapes[kind].amplitude*float64(wave+float64(noise/10)))
	switch {
	case kind == shapePressure:
		return wire.Value{Kind: wire.ValueInt, Int: int64(number * 100)}
	case kind == shapeHumidity, p.Float32:
		return wire.Value{Kind: wire.ValueFloat32, Number: float64(float32(number))}
	default:
		return wire.Value{Kind: wire.ValueNumber, Number: number}
	}
}

var stateTexts = func() (texts [len(states)][]byte) {
	for i, state := range states {
		texts[i] = []byte(state)
	}
	return texts
}()
