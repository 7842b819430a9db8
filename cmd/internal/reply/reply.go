// Package reply helps this repository's own devices to answer commands. It has
// no state and starts nothing.
package reply

import (
	"encoding/json"
	"fmt"
	"time"

	"mooring/wire"
)

// With is a result with something to say, which must be fit for JSON.
func With(status wire.ResultStatus, detail any) wire.Result {
	result := wire.Result{Status: status}
	if text, err := json.Marshal(detail); err == nil {
		result.Detail, _ = wire.ValueFromJSON(text) // what Marshal made is a value
	}
	return result
}

// Interval reads the arguments of set_interval, {"ms": number}, and holds them
// against the limits.
func Interval(args []byte, shortest, longest time.Duration) (time.Duration, error) {
	text, err := wire.ValueToJSON(args)
	if err != nil {
		return 0, fmt.Errorf(`set_interval wants {"ms": milliseconds}: %w`, err)
	}
	var wanted struct {
		Millis *float64 `json:"ms"`
	}
	if err := json.Unmarshal(text, &wanted); err != nil || wanted.Millis == nil {
		return 0, fmt.Errorf(`set_interval wants {"ms": milliseconds}, not %s`, text)
	}
	// Compared as numbers: a duration could not hold all of them.
	if *wanted.Millis < millis(shortest) || *wanted.Millis > millis(longest) {
		return 0, fmt.Errorf("ms is %v; %v to %v are allowed", *wanted.Millis, millis(shortest), millis(longest))
	}
	return time.Duration(*wanted.Millis * float64(time.Millisecond)), nil
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
