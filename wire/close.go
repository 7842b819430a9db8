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

var closeNames = map[CloseCode]string{
	CloseDrain:           "DRAIN",
	CloseInternal:        "INTERNAL",
	CloseHeartbeat:       "HEARTBEAT",
	CloseSlowReader:      "SLOW_READER",
	CloseOverloaded:      "OVERLOADED",
	CloseReplaced:        "REPLACED",
	CloseWindow:          "WINDOW",
	CloseQuota:           "QUOTA",
	CloseBadFrame:        "BAD_FRAME",
	CloseBadSeq:          "BAD_SEQ",
	CloseTooLarge:        "TOO_LARGE",
	CloseUnknownType:     "UNKNOWN_TYPE",
	CloseText:            "TEXT",
	CloseVersion:         "VERSION",
	CloseUnauthenticated: "UNAUTHENTICATED",
	CloseDisabled:        "DISABLED",
	1000:                 "NORMAL",
	1001:                 "GOING_AWAY",
	1002:                 "PROTOCOL_ERROR",
	1003:                 "UNSUPPORTED_DATA",
	1005:                 "NO_CODE",
	1006:                 "ABNORMAL",
	1007:                 "INVALID_PAYLOAD",
	1008:                 "POLICY",
	1009:                 "MESSAGE_TOO_BIG",
	1011:                 "SERVER_ERROR",
	1012:                 "SERVICE_RESTART",
	1013:                 "TRY_LATER",
}

// String is the code's name, such as DRAIN; OTHER if PROTOCOL.md names none,
// so that it can serve as a metric's label.
func (c CloseCode) String() string {
	if name, ok := closeNames[c]; ok {
		return name
	}
	return "OTHER"
}

// Class says when to come back after a close with this code. Codes that the
// table does not name take the class of their hundred; what belongs to none is
// ClassRetry below 4000, like a broken link, and ClassLater above.
func (c CloseCode) Class() CloseClass {
	switch {
	case c == 1008 || c == 1013:
		return ClassLater
	case c == 1002 || c == 1003 || c == 1007 || c == 1009:
		return ClassFault
	case c < 4100:
		return ClassRetry
	case c < 4200:
		return ClassLater
	case c < 4300:
		return ClassFault
	case c >= 4500 && c < 4600:
		return ClassTerminal
	default:
		return ClassLater
	}
}

// HTTPStatusClass says when to come back after a handshake that was answered
// with an HTTP status other than 101. Statuses below 400 come from something
// that is no gateway, such as a captive portal: ClassLater.
func HTTPStatusClass(status int) CloseClass {
	switch {
	case status == 401 || status == 403:
		return ClassTerminal
	case status == 429 || status == 503:
		return ClassLater
	case status >= 500 || status == 408:
		return ClassRetry
	case status >= 400:
		return ClassFault
	default:
		return ClassLater
	}
}

// String is the letter of the class: R, L, F or T.
func (c CloseClass) String() string {
	if int(c) < len("RLFT") {
		return "RLFT"[c : c+1]
	}
	return "?"
}
