package demo

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"mooring/cmd/internal/terminal"
	"mooring/ingest"
)

// rateOver is the time that the rate of rows is an average of.
const rateOver = 3 * time.Second

// point is a total at a time.
type point struct {
	at   time.Time
	rows uint64
}

// status turns snapshots of the server into lines for people.
type status struct {
	style  terminal.Styler
	url    string
	begun  time.Time
	length time.Duration // 0: until somebody ends it
	all    int           // devices
	ended  func() bool   // devices measure no more
	recent []point       // of the last rateOver
}

// committed are the rows that devices were told to forget.
func committed(stats ingest.Stats) uint64 { return stats.RowsCommitted + stats.RowsDuplicate }

// rate is the number of rows settled per second, lately.
func (s *status) rate(now time.Time, stats ingest.Stats) float64 {
	s.recent = append(s.recent, point{now, committed(stats)})
	for len(s.recent) > 2 && now.Sub(s.recent[1].at) >= rateOver {
		s.recent = s.recent[1:]
	}
	first, last := s.recent[0], s.recent[len(s.recent)-1]
	if passed := last.at.Sub(first.at).Seconds(); passed > 0 {
		return float64(last.rows-first.rows) / passed
	}
	return 0
}

// lines gives the block for a terminal and the line for everything else.
func (s *status) lines(now time.Time, stats ingest.Stats) (block []string, plain string) {
	rate := s.rate(now, stats)
	clock := now.Sub(s.begun).Round(time.Second).String()
	switch {
	case s.ended():
		clock += ", waiting for the last acks"
	case s.length > 0:
		clock += " of " + s.length.String()
	}
	row := func(name, format string, args ...any) string {
		return "  " + s.style.Bold(fmt.Sprintf("%-9s", name)) + fmt.Sprintf(format, args...)
	}
	devices := fmt.Sprintf("%d of %d online", min(stats.Connections, s.all), s.all)
	acks := fmt.Sprintf("p50 %s, p99 %s", short(stats.AckP50), short(stats.AckP99))
	block = []string{
		"",
		row("server", "%s   %s", s.url, s.style.Dim(clock)),
		row("devices", "%s", devices),
		row("rows", "%s/s, %s received, %s committed, %s again, %s refused",
			group(uint64(rate)), group(stats.RowsIn), group(stats.RowsCommitted), group(stats.RowsDuplicate), group(stats.RowsRejected)),
		row("acks", "%s", acks),
		row("waiting", "%s for the database", size(stats.BytesWaiting)),
		"",
	}
	plain = fmt.Sprintf("%s: devices %s, rows %s/s, acked %s, ack %s, waiting %s",
		clock, devices, group(uint64(rate)), group(committed(stats)), acks, size(stats.BytesWaiting))
	return block, plain
}

// short writes a latency with two digits that mean something.
func short(d time.Duration) string {
	switch {
	case d <= 0:
		return "-"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
	default:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
}

// size writes a number of bytes with a unit.
func size(n int) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	default:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
}

// group writes a number with commas between thousands.
func group(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	var b strings.Builder
	for i, digit := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	return b.String()
}
