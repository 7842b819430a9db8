package wire

// String is the code's name, such as MALFORMED; OTHER if PROTOCOL.md names
// none.
func (c Code) String() string {
	switch c {
	case CodeMalformed:
		return "MALFORMED"
	case CodeType:
		return "TYPE"
	case CodeNotFinite:
		return "NOT_FINITE"
	case CodeRange:
		return "RANGE"
	case CodeString:
		return "STRING"
	case CodeTimeFuture:
		return "TIME_FUTURE"
	case CodeTimePast:
		return "TIME_PAST"
	case CodeUnsupported:
		return "UNSUPPORTED"
	case CodeName:
		return "NAME"
	case CodeStorage:
		return "STORAGE"
	case CodeUnknownLayout:
		return "UNKNOWN_LAYOUT"
	case CodeQuota:
		return "QUOTA"
	}
	return "OTHER"
}

// Final reports whether a row refused with this code must never be sent again
// (PROTOCOL §7.1).
func (c Code) Final() bool { return c < 64 }
