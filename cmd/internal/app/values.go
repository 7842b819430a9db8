package app

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The calendar's longer units, as people mean them for ages.
const (
	day  = 24 * time.Hour
	week = 7 * day
	year = 365 * day
)

// Span is a duration that can be written in days (d), weeks (w) and years (y)
// of 365 days, besides Go's own units.
type Span time.Duration

// UnmarshalText reads "90d", "1y", "10m" or "1h30m".
func (s *Span) UnmarshalText(text []byte) error {
	duration, err := parseSpan(string(text))
	if err != nil {
		return err
	}
	*s = Span(duration)
	return nil
}

// Duration is the span as the rest of Go knows it.
func (s Span) Duration() time.Duration { return time.Duration(s) }

// MarshalText writes what UnmarshalText reads.
func (s Span) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s Span) String() string {
	duration := time.Duration(s)
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{year, "y"}, {day, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if duration != 0 && duration%unit.size == 0 {
			return fmt.Sprintf("%d%s", duration/unit.size, unit.name)
		}
	}
	if duration == 0 {
		return "0"
	}
	return duration.String()
}

func parseSpan(text string) (time.Duration, error) {
	failure := fmt.Errorf("%q is no time span: write 30s, 10m, 36h, 90d, 2w or 1y", text)
	for suffix, unit := range map[string]time.Duration{"d": day, "w": week, "y": year} {
		number, ok := strings.CutSuffix(text, suffix)
		if !ok {
			continue
		}
		count, err := strconv.ParseFloat(number, 64)
		if err != nil || count < 0 || math.IsNaN(count) || count*float64(unit) > math.MaxInt64/2 {
			return 0, failure
		}
		return time.Duration(count * float64(unit)), nil
	}
	duration, err := time.ParseDuration(text)
	if err != nil || duration < 0 {
		return 0, failure
	}
	return duration, nil
}

// Horizon is a point in the past: a date that stays where it is, or an age that
// moves with the clock.
type Horizon struct {
	At  time.Time // zero: Age counts
	Age time.Duration
}

// UnmarshalText reads "2000-01-01", "2000-01-01T00:00:00Z" or an age as Span
// does. Dates are UTC.
func (h *Horizon) UnmarshalText(text []byte) error {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, string(text)); err == nil {
			*h = Horizon{At: at.UTC()}
			return nil
		}
	}
	age, err := parseSpan(string(text))
	if err != nil || age <= 0 {
		return fmt.Errorf("%q is neither a date like 2000-01-01 nor an age like 90d", text)
	}
	*h = Horizon{Age: age}
	return nil
}

func (h Horizon) String() string {
	switch {
	case h.At.IsZero():
		return Span(h.Age).String()
	case h.At.Truncate(day).Equal(h.At):
		return h.At.Format(time.DateOnly)
	default:
		return h.At.Format(time.RFC3339)
	}
}

// Size is a number of bytes that can be written with B, KiB, MiB or GiB.
type Size int

var sizeUnits = []struct {
	name string
	size Size
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}

// UnmarshalText reads "64MiB", "16KiB" or "1024".
func (s *Size) UnmarshalText(text []byte) error {
	for _, unit := range sizeUnits {
		number, ok := strings.CutSuffix(string(text), unit.name)
		if !ok {
			continue
		}
		count, err := strconv.Atoi(strings.TrimSpace(number))
		if err != nil || count < 0 || count > math.MaxInt/int(unit.size) {
			break
		}
		*s = Size(count) * unit.size
		return nil
	}
	return errors.New("\"" + string(text) + "\" is no size: write 1024, 16KiB, 64MiB or 1GiB")
}

func (s Size) String() string {
	for _, unit := range sizeUnits {
		if s != 0 && s%unit.size == 0 {
			return fmt.Sprintf("%d%s", s/unit.size, unit.name)
		}
	}
	return "0"
}
