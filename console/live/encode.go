package live

import (
	"encoding/json"
	"math"
	"strconv"
	"time"
)

// appendText appends a JSON string.
func appendText(dst []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, err := json.Marshal(text)
			if err != nil {
				return append(dst, `""`...) // no string is refused
			}
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, text...)
	return append(dst, '"')
}

// appendTime appends a time in UTC (RFC 3339); null if it is zero.
func appendTime(dst []byte, at time.Time) []byte {
	if at.IsZero() {
		return append(dst, "null"...)
	}
	dst = append(dst, '"')
	dst = at.UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, '"')
}

// appendNumber appends a number as encoding/json does; null if JSON has none for it.
func appendNumber(dst []byte, number float64) []byte {
	switch size := math.Abs(number); {
	case math.IsNaN(number) || math.IsInf(number, 0):
		return append(dst, "null"...)
	case size != 0 && (size < 1e-6 || size >= 1e21):
		return strconv.AppendFloat(dst, number, 'e', -1, 64)
	}
	return strconv.AppendFloat(dst, number, 'f', -1, 64)
}

// appendReading appends a channel and its reading, without the closing brace.
func appendReading(dst []byte, channel string, unixMicros int64, number float64, text []byte) []byte {
	dst = appendText(dst, channel)
	dst = append(dst, `:{"time":`...)
	dst = appendTime(dst, time.UnixMicro(unixMicros))
	dst = append(dst, `,"value":`...)
	if text == nil {
		return appendNumber(dst, number)
	}
	dst = append(dst, `null,"text":`...)
	return appendText(dst, string(text))
}
