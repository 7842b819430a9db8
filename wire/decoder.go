package wire

import "errors"

var errStub = errors.New("not built yet")

// Decoder decodes frames. One serves one connection: it remembers the layouts
// that DATA declared on the fly. Reset makes it fit for another connection.
type Decoder struct{}

// NewDecoder makes a decoder with these limits.
func NewDecoder(limits Limits) *Decoder { return &Decoder{} }

// Reset forgets the connection served so far.
func (d *Decoder) Reset() {}

// SetTimeRange sets the times rows may have, in microseconds since 1970. Newest
// 0 means no limit.
func (d *Decoder) SetTimeRange(oldest, newest int64) {}

// FrameTypeOf reads the head of any frame. The error is a *FrameError:
// CloseBadFrame, or CloseUnknownType for an unknown critical type. Unknown
// types from 32 on come back without an error and are to be ignored.
func FrameTypeOf(frame []byte) (FrameType, error) { return 0, errStub }

// Hello decodes a HELLO. The error is a *FrameError.
func (d *Decoder) Hello(frame []byte) (Hello, error) { return Hello{}, errStub }

// Layout decodes a LAYOUT. The error is a *FrameError or a *LayoutError.
func (d *Decoder) Layout(frame []byte) (Layout, error) { return Layout{}, errStub }

// DataHead decodes a DATA frame up to its values. The error is a *FrameError
// or a *BodyError.
func (d *Decoder) DataHead(frame []byte) (DataHead, error) { return DataHead{}, errStub }

// InferLayout gives the layout that a DATA frame with names declares on the
// fly. Call it between DataHead and Rows. The error is a *BodyError.
//
// Layout.Number is FirstInferred or more and stands for this content as long
// as the decoder lives, so it serves as a key as declared numbers do. Channels
// is shared and must not be changed.
func (d *Decoder) InferLayout(head DataHead) (Layout, error) { return Layout{}, errStub }

// FirstInferred is the lowest Layout.Number of layouts declared on the fly;
// the numbers devices declare are below it.
const FirstInferred = 1 << 16

// Rows begins the rows of the frame last given to DataHead. serverTime, in
// microseconds since 1970, is the time of frames without t0.
func (d *Decoder) Rows(layout *Layout, serverTime int64) {}

// Next decodes the next row that is not refused whole.
func (d *Decoder) Next(row *Row) bool { return false }

// Err is nil or the *BodyError that refuses the whole frame.
func (d *Decoder) Err() error { return errStub }

// Rejects lists this frame's refusals, run-length coded; after a *BodyError
// it is that one refusal. Valid until the decoder's next use.
func (d *Decoder) Rejects() []Reject { return nil }

// Rejected counts the values and rows refused in this frame.
func (d *Decoder) Rejected() uint64 { return 0 }

// RowsRefused counts the rows refused whole in this frame.
func (d *Decoder) RowsRefused() uint64 { return 0 }

// Result decodes a RESULT. The error is a *FrameError.
func (d *Decoder) Result(frame []byte) (Result, error) { return Result{}, errStub }

// Ping decodes a PING. The error is a *FrameError.
func (d *Decoder) Ping(frame []byte) (Ping, error) { return Ping{}, errStub }

// Welcome decodes a WELCOME. The error is a *FrameError.
func (d *Decoder) Welcome(frame []byte) (Welcome, error) { return Welcome{}, errStub }

// Ack decodes an ACK. The error is a *FrameError.
func (d *Decoder) Ack(frame []byte) (Ack, error) { return Ack{}, errStub }

// Command decodes a COMMAND. The error is a *FrameError.
func (d *Decoder) Command(frame []byte) (Command, error) { return Command{}, errStub }

// Notice decodes a NOTICE. The error is a *FrameError.
func (d *Decoder) Notice(frame []byte) (Notice, error) { return Notice{}, errStub }

// Pong decodes a PONG. The error is a *FrameError.
func (d *Decoder) Pong(frame []byte) (Pong, error) { return Pong{}, errStub }

// DefaultLayoutName is the layout's name when LAYOUT gives none: the model,
// with what names can't hold replaced by "_", or "default".
func DefaultLayoutName(model string) string { return "default" }

// FingerprintLayout is the identity of a layout's content.
func FingerprintLayout(name string, channels []Channel) [32]byte { return [32]byte{} }

// ValidateValue checks that value is exactly one MessagePack value as frames
// may carry it in args and detail.
func ValidateValue(value []byte) error { return errStub }
