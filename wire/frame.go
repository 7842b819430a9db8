package wire

// Names a client needs to find the endpoint (PROTOCOL.md §2).
const (
	// Subprotocol is the WebSocket subprotocol of this version of the protocol.
	Subprotocol = "mooring.v1"
	// TokenSubprotocolPrefix starts the extra offered subprotocol in which
	// clients that can set no headers carry their token. It is never echoed.
	TokenSubprotocolPrefix = "mooring.token."
	// StreamPath is the HTTP path of the WebSocket endpoint.
	StreamPath = "/v1/stream"
)

// FrameType is the first element of every frame (PROTOCOL.md §3).
// Types 0 to 31 are critical: a receiver that does not know one closes with
// CloseUnknownType. Types 32 to 127 may be ignored.
type FrameType uint8

// The frames of both directions.
const (
	FrameHello   FrameType = 1  // from the device
	FrameLayout  FrameType = 2  // from the device
	FrameData    FrameType = 3  // from the device
	FrameResult  FrameType = 4  // from the device
	FramePing    FrameType = 5  // from the device
	FrameWelcome FrameType = 16 // from the server
	FrameAck     FrameType = 17 // from the server
	FrameCommand FrameType = 18 // from the server
	FrameNotice  FrameType = 19 // from the server
	FramePong    FrameType = 20 // from the server
)

// Hello introduces a device's boot. All fields are optional.
type Hello struct {
	BootID     uint32 // 32 random bits a boot; 0: absent
	Heartbeat  int    // wished for, seconds; 0: the server's default
	MaxReceive int    // largest message the device can take, bytes; 0: 1024
	Model      string // at most 64 bytes
	Firmware   string // at most 64 bytes
}

// Welcome is the server's first frame.
type Welcome struct {
	Time      int64  // server clock, milliseconds since 1970
	Session   int64  // number of this session, rising per device
	Heartbeat int    // seconds
	MaxFrame  int    // bytes
	Window    int    // unacknowledged DATA frames allowed
	Spread    int    // seconds over which to spread reconnects
	Next      uint64 // first sequence number of this boot not yet committed
	HasNext   bool   // whether Next is known; it is a hint only
}

// Kind is the kind of values a channel carries.
type Kind uint8

// The kinds of a channel.
const (
	KindNumber Kind = 0
	KindBool   Kind = 1
	KindText   Kind = 2
)

// Channel describes one column of a layout.
type Channel struct {
	Name  string // A-Z a-z 0-9 _ . - /, 1 to 64 bytes
	Unit  string // UTF-8, at most 64 bytes; empty: none
	Kind  Kind
	Exp10 int8 // -9 to 9: integers sent are multiplied by 10^Exp10
}

// Layout names the channels of a row, once per connection.
type Layout struct {
	Number   uint32 // the device's own number for it on this connection
	Name     string // what SQL users see; empty: the device's model
	Channels []Channel
}

// ValueKind says what a Value holds.
type ValueKind uint8

// The kinds of values. A decoded row holds ValueNil, ValueNumber, ValueBool
// and ValueText only; ValueInt and ValueFloat32 tell the encoder how to send a
// number.
const (
	ValueNil     ValueKind = iota // no reading
	ValueNumber                   // Number, sent as float64
	ValueBool                     // Number is 0 or 1
	ValueText                     // Text
	ValueInt                      // Int, sent as an integer, before Exp10
	ValueFloat32                  // Number, sent as float32
)

// Value is one reading. In a decoded row Text aliases the frame: copy it or be
// done with it before the frame's buffer is released.
type Value struct {
	Kind   ValueKind
	Number float64
	Int    int64
	Text   []byte
}

// Row is one sample: the readings of one layout at one time.
type Row struct {
	Seq    uint64
	Time   int64   // microseconds since 1970
	Values []Value // one per channel of the layout
}

// Packing says how DATA carries its values.
type Packing uint8

// The packings. All but PackNone need Step > 0.
const (
	PackNone    Packing = iota // one MessagePack value per reading
	PackInt16                  // ext type 2
	PackInt32                  // ext type 3
	PackFloat32                // ext type 4, NaN: no reading
)

// Data is a DATA frame to encode. Rows carry absolute times; the encoder turns
// them into t0 and dt, or, with Step, sends only the first one's. Times that
// are sent must be whole milliseconds.
type Data struct {
	Seq        uint64   // of the first row; Row.Seq is ignored
	Layout     uint32   // a declared number, or
	Names      []string // channel names: declares a layout on the fly
	Step       int64    // microseconds between rows; 0: each row has its time
	Packing    Packing
	ServerTime bool // t0 nil: the server stamps the frame
	Rows       []Row
}

// DataHead is what precedes the values of a DATA frame.
type DataHead struct {
	Seq        uint64
	N          int
	T0         int64 // milliseconds since 1970; meaningless if ServerTime
	ServerTime bool
	Layout     uint32   // declared number, if Names is empty
	Names      []string // valid until the decoder's next use; cached by the decoder
	Step       int64    // microseconds
}

// Code says why rows or channels were refused (PROTOCOL.md §7). Below 64 the
// refusal is final: never send it again.
type Code uint8

// The refusal codes.
const (
	CodeMalformed     Code = 1
	CodeType          Code = 2
	CodeNotFinite     Code = 3
	CodeRange         Code = 4
	CodeString        Code = 5
	CodeTimeFuture    Code = 6
	CodeTimePast      Code = 7
	CodeUnsupported   Code = 8
	CodeName          Code = 9
	CodeStorage       Code = 11
	CodeUnknownLayout Code = 64
	CodeQuota         Code = 65
)

// WholeRow as Reject.Channel means that the rows themselves were refused.
const WholeRow = -1

// Reject is a run of refusals: rows Seq … Seq+N-1, one channel or WholeRow.
type Reject struct {
	Seq     uint64
	N       uint64
	Channel int // index in the layout, or WholeRow
	Code    Code
}

// MaxAckRejects is the number of reject entries one ACK carries at most.
const MaxAckRejects = 32

// Ack says that every row before Next is settled: committed, a duplicate of a
// committed one, or refused.
type Ack struct {
	Next     uint64
	Window   int
	Rejected uint64 // all refusals covered by this ack, listed or not
	Rejects  []Reject
}

// FlagIdempotent marks a command that may be delivered more than once.
const FlagIdempotent uint8 = 1

// Command asks the device for something.
type Command struct {
	ID    int64
	Name  string
	Args  []byte // one MessagePack value; nil: none
	TTL   int    // seconds
	Flags uint8
}

// ResultStatus is the outcome of a command.
type ResultStatus uint8

// The outcomes of a command.
const (
	ResultDone     ResultStatus = 0
	ResultAccepted ResultStatus = 1 // more follows
	ResultFailed   ResultStatus = 2
	ResultUnknown  ResultStatus = 3
	ResultBadArgs  ResultStatus = 4
	ResultExpired  ResultStatus = 5
	ResultBusy     ResultStatus = 6
	ResultRefused  ResultStatus = 7
)

// Result answers a command.
type Result struct {
	ID     int64
	Status ResultStatus
	Detail []byte // one MessagePack value; nil: none
}

// NoticeKind says what a NOTICE is about.
type NoticeKind uint8

// The kinds of notices.
const (
	NoticeTime           NoticeKind = 1
	NoticeThrottle       NoticeKind = 2
	NoticeGoAway         NoticeKind = 3
	NoticeParams         NoticeKind = 4
	NoticeLayoutRejected NoticeKind = 5
	NoticeNeedLayout     NoticeKind = 6
)

// Notice is a NOTICE frame; the fields that its Kind names are meaningful.
type Notice struct {
	Kind NoticeKind

	Time int64 // NoticeTime: milliseconds since 1970

	MinGapMillis int // NoticeThrottle: at least this long between frames
	ForSeconds   int // NoticeThrottle

	Code        CloseCode // NoticeGoAway: the close that will follow
	GraceMillis int       // NoticeGoAway: how long the server still acks
	MinMillis   int       // NoticeGoAway: reconnect no sooner than
	MaxMillis   int       // NoticeGoAway: and no later than
	Text        string    // NoticeGoAway: for people

	Heartbeat, MaxFrame, Window, Spread int // NoticeParams

	Layout  uint32 // NoticeLayoutRejected, NoticeNeedLayout
	Channel int    // NoticeLayoutRejected: index, or WholeRow
	Reason  Code   // NoticeLayoutRejected
}

// Ping asks for a Pong with the same echo.
type Ping struct{ Echo uint64 }

// Pong answers a Ping.
type Pong struct {
	Echo uint64
	Time int64 // server clock, milliseconds since 1970
}

// Limits are what a decoder refuses beyond. The zero value of a field means
// the default named beside it.
type Limits struct {
	MaxRows     int   // rows in a DATA frame; 4,096
	MaxChannels int   // channels in a layout; 256
	MaxText     int   // bytes of a text value; 255
	MaxInferred int   // layouts declared on the fly, per connection; 16
	Oldest      int64 // microseconds since 1970; rows before: CodeTimePast
	Newest      int64 // microseconds since 1970; rows after: CodeTimeFuture; 0: no limit
}
