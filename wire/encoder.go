package wire

// Encoder encodes frames. Every method returns bytes that are valid until the
// next call.
type Encoder struct{}

// NewEncoder makes an encoder.
func NewEncoder() *Encoder { return &Encoder{} }

// Hello encodes a HELLO.
func (e *Encoder) Hello(hello Hello) []byte { return nil }

// Layout encodes a LAYOUT.
func (e *Encoder) Layout(layout *Layout) []byte { return nil }

// Data encodes a DATA frame.
func (e *Encoder) Data(data *Data) ([]byte, error) { return nil, errStub }

// Result encodes a RESULT.
func (e *Encoder) Result(result Result) []byte { return nil }

// Ping encodes a PING.
func (e *Encoder) Ping(ping Ping) []byte { return nil }

// Welcome encodes a WELCOME.
func (e *Encoder) Welcome(welcome Welcome) []byte { return nil }

// Ack encodes an ACK with at most MaxAckRejects refusals.
func (e *Encoder) Ack(ack *Ack) []byte { return nil }

// AckWithin encodes an ACK of at most maxBytes, leaving out the refusals that
// do not fit; listed tells how many are in it.
func (e *Encoder) AckWithin(ack *Ack, maxBytes int) (frame []byte, listed int) { return nil, 0 }

// Command encodes a COMMAND.
func (e *Encoder) Command(command Command) []byte { return nil }

// Notice encodes a NOTICE.
func (e *Encoder) Notice(notice Notice) []byte { return nil }

// Pong encodes a PONG.
func (e *Encoder) Pong(pong Pong) []byte { return nil }
