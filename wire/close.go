package wire

// CloseCode is a WebSocket close code (PROTOCOL.md §9).
type CloseCode uint16

// The close codes of the protocol. Their class says when to come back.
const (
	CloseDrain           CloseCode = 4000 // the server restarts
	CloseInternal        CloseCode = 4001 // a fault of the server
	CloseHeartbeat       CloseCode = 4002 // nothing was heard for too long
	CloseSlowReader      CloseCode = 4004 // the device does not read
	CloseOverloaded      CloseCode = 4100
	CloseReplaced        CloseCode = 4101 // a newer connection of this device
	CloseWindow          CloseCode = 4102 // more frames than the window allows
	CloseQuota           CloseCode = 4103
	CloseBadFrame        CloseCode = 4200 // a frame whose head can't be read
	CloseBadSeq          CloseCode = 4201 // sequence numbers went back
	CloseTooLarge        CloseCode = 4202
	CloseUnknownType     CloseCode = 4203 // an unknown critical frame type
	CloseText            CloseCode = 4204 // a text message
	CloseVersion         CloseCode = 4500
	CloseUnauthenticated CloseCode = 4501 // the credential was revoked or expired
	CloseDisabled        CloseCode = 4502 // the device was disabled
)

// CloseClass groups close codes by what a device does next.
type CloseClass uint8

// The classes (PROTOCOL.md §9).
const (
	ClassRetry    CloseClass = iota // R: soon, spread out
	ClassLater                      // L: a minute later
	ClassFault                      // F: the sender is at fault
	ClassTerminal                   // T: a person must act; keep trying, slowly
)
