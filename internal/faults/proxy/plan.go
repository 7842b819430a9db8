package proxy

import "time"

// Direction is one way through a connection.
type Direction int

// The directions.
const (
	Up   Direction = iota // from the device to the server
	Down                  // from the server to the device
)

// Offsets that are not a number of bytes.
const (
	Half int64 = -1 // the middle of a frame; of the handshake it is not known
	End  int64 = -2 // behind the last byte
)

// Point is a place in one direction of a connection: so many bytes into a part,
// which is the handshake's message (0) or the m-th WebSocket frame (m ≥ 1). An
// offset beyond the part's end means its end.
type Point struct {
	Part   int
	Offset int64
}

// Action is what happens when a Point is reached. Every byte before it is
// delivered, none behind it is.
type Action int

// The actions.
const (
	// None: the connection stays sound.
	None Action = iota
	// Cut closes both sides, as a process that ends does.
	Cut
	// Reset closes both sides with RST.
	Reset
	// Swallow leads this direction nowhere from here on, without a word to either
	// side; the other direction goes on.
	Swallow
	// Vanish freezes both directions: nothing more is read, delivered or closed,
	// as when the power fails or a middlebox forgets the connection.
	Vanish
	// Hold is for Up. It keeps what the device sends from here on, leads the other
	// direction nowhere, and resets the device's side after Plan.HoldFor. The bytes
	// kept reach the server when the same device has connected again: old bytes
	// behind a takeover.
	Hold
)

func (a Action) String() string {
	return [...]string{"none", "cut", "reset", "swallowed", "vanished", "held back"}[a]
}

// Plan is what happens to one connection. The zero value does nothing.
type Plan struct {
	// Refuse resets the connection before the server hears of it.
	Refuse bool
	// Latency is added to everything, in each direction, and up to Jitter more,
	// at random. Bytes stay in order.
	Latency, Jitter time.Duration
	// Piece is the most that is delivered at a time, in bytes, with Gap in
	// between; 0: as it comes. It ends after PieceFor bytes of a direction; 0: never.
	Piece    int
	Gap      time.Duration
	PieceFor int64

	// Action happens in Direction At.
	Action    Action
	Direction Direction
	At        Point

	// HoldFor is how long the device's side stays open after Hold began.
	HoldFor time.Duration
	// HoldPast has the bytes wait until the server has welcomed the device on its
	// new connection; otherwise they go as soon as that sends its request, and
	// race with the takeover.
	HoldPast bool
}
