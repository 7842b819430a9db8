//go:build linux

package faults

import (
	"errors"
	"os"
	"strings"
	"time"
)

// Parting is the end of a device's connection, or of an attempt to get one, as
// the device saw it.
type Parting struct {
	At   time.Time     // to a millisecond, rounded down
	Wait time.Duration // for how long it then stays away
	Code string        // of the close; "1006": none came
}

// Partings are those of all devices so far, in the order of their ends. The load
// needs the flags --log-level debug.
func (l *Load) Partings() []Parting {
	l.stage.tb.Helper()
	content, err := os.ReadFile(l.files.log)
	if err != nil {
		l.stage.tb.Fatalf("faults: %v", err)
	}
	var all []Parting
	for line := range strings.Lines(string(content)) {
		if !strings.Contains(line, `msg="not connected"`) {
			continue
		}
		parting, err := partingOf(line)
		if err != nil {
			l.stage.tb.Fatalf("faults: what a fleet logged: %v: %s", err, line)
		}
		all = append(all, parting)
	}
	return all
}

func partingOf(line string) (p Parting, err error) {
	if p.At, err = time.Parse(time.RFC3339, logged(line, "time")); err != nil {
		return p, err
	}
	if p.Wait, err = time.ParseDuration(logged(line, "wait")); err != nil {
		return p, err
	}
	if p.Code = logged(line, "code"); p.Code == "" {
		return p, errors.New("it has no code")
	}
	return p, nil
}

// logged is the value of a key in a line that log/slog's text handler wrote; ""
// without one. It is for values that need no quotes.
func logged(line, key string) string {
	_, value, _ := strings.Cut(" "+line, " "+key+"=")
	value, _, _ = strings.Cut(strings.TrimSpace(value), " ")
	return value
}
