package fleet

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"mooring/cmd/internal/terminal"
)

// Latency is a distribution of ack latencies, in microseconds.
type Latency struct {
	Count int64        `json:"count"` // frames
	Mean  int64        `json:"mean_us"`
	P50   int64        `json:"p50_us"`
	P90   int64        `json:"p90_us"`
	P99   int64        `json:"p99_us"`
	P999  int64        `json:"p999_us"`
	Max   int64        `json:"max_us"`
	Bars  []LatencyBar `json:"histogram,omitempty"`
}

// LatencyBar counts the frames whose ack took from Least to less than Below.
type LatencyBar struct {
	Least int64 `json:"from_us"`
	Below int64 `json:"below_us"`
	Count int64 `json:"count"`
}

// Unsettled is a device that was sent no ack for its last rows in time.
type Unsettled struct {
	Device string `json:"device"`
	Boot   int    `json:"boot"`
	Acked  uint64 `json:"acked"`
	Sent   uint64 `json:"sent"`
}

// Result is what a run came to. Rows of a boot that ended without its last acks
// are in Produced and not in Acked.
type Result struct {
	Seconds  float64 `json:"seconds"`
	Devices  int     `json:"devices"`
	Produced uint64  `json:"rows_made"`
	Acked    uint64  `json:"rows_acknowledged"`
	Rate     float64 `json:"rows_acknowledged_per_second"` // while devices measured

	RowsSent  uint64      `json:"rows_sent"` // again included
	Frames    uint64      `json:"frames_sent"`
	Bytes     uint64      `json:"bytes_sent"`
	Refused   uint64      `json:"refused"` // rows and values, as acks listed them
	Connects  uint64      `json:"connects"`
	Reboots   uint64      `json:"reboots"`
	Dropped   uint64      `json:"rows_given_up"`
	Poisoned  uint64      `json:"frames_given_up_as_poison"`
	Unsettled []Unsettled `json:"unsettled,omitempty"`

	Closes     map[string]uint64 `json:"ends_of_connections,omitempty"`
	LinkFaults map[string]uint64 `json:"link_faults,omitempty"`
	Misdeeds   []InputTally      `json:"misdeeds,omitempty"`
	LastError  string            `json:"last_error,omitempty"` // why a connection or an attempt ended last
	Latency    Latency           `json:"ack_latency"`
}

// Settled reports whether everything sent was acknowledged in the end.
func (r *Result) Settled() bool { return len(r.Unsettled) == 0 }

// lost is the number of rows of a settled run that no device has any more and
// that no ack covers.
func (r *Result) lost() uint64 {
	return r.Produced - min(r.Produced, r.Acked+r.Dropped)
}

// Surprises are the misdeeds that were answered in another way than stated.
func (r *Result) Surprises() []InputTally {
	return slices.DeleteFunc(slices.Clone(r.Misdeeds), func(tally InputTally) bool { return tally.Otherwise == 0 })
}

// result sums up a run that has ended.
func (r *run) result() Result {
	t := &r.tallies
	t.mu.Lock()
	defer t.mu.Unlock()
	result := Result{
		Seconds: time.Since(r.started).Seconds(), Devices: len(r.devices),
		Produced: r.produced.Load(), Acked: r.acked.Load(),
		RowsSent: t.rowsSent, Frames: t.frames, Bytes: t.bytes, Refused: r.refused.Load(),
		Connects: t.connects, Reboots: r.reboots.Load(), Dropped: t.dropped, Poisoned: t.poisoned,
		Closes: t.closes, LinkFaults: t.links, Misdeeds: r.inputs.list(),
	}
	if t.lastErr != nil {
		result.LastError = t.lastErr.Error()
	}
	if r.measured > 0 {
		result.Rate = float64(r.measuredAcked) / r.measured.Seconds()
	}
	for _, d := range r.devices {
		if boot := d.current.Load(); boot != nil && boot.client.Stats().Rows > 0 {
			result.Unsettled = append(result.Unsettled, Unsettled{
				Device: d.token.Name, Boot: boot.Number, Acked: boot.acked.Load(), Sent: boot.sent.Load(),
			})
		}
	}
	h := r.merged()
	result.Latency = Latency{
		Count: h.TotalCount(), Mean: int64(h.Mean()), P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90),
		P99: h.ValueAtQuantile(99), P999: h.ValueAtQuantile(99.9), Max: h.Max(), Bars: bars(h.Distribution()),
	}
	return result
}

// bars gathers a histogram's fine steps into doublings.
func bars(steps []hdrhistogram.Bar) []LatencyBar {
	counts := make(map[int64]int64)
	for _, bar := range steps {
		if bar.Count > 0 {
			least := int64(1)
			for least*2 <= bar.From {
				least *= 2
			}
			counts[least] += bar.Count
		}
	}
	var list []LatencyBar
	for _, least := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, LatencyBar{Least: least, Below: 2 * least, Count: counts[least]})
	}
	return list
}

// Print writes the result for people.
func (r *Result) Print(w io.Writer) {
	count := func(n uint64) string { return strconv.FormatUint(n, 10) }
	rows := [][]string{
		{"rows made", count(r.Produced)},
		{"rows acknowledged", count(r.Acked)},
		{"rows acknowledged per second", strconv.FormatFloat(r.Rate, 'f', 0, 64)},
		{"rows sent, again included", count(r.RowsSent)},
		{"refusals listed in acks", count(r.Refused)},
		{"frames", count(r.Frames)},
		{"connections", count(r.Connects)},
		{"reboots", count(r.Reboots)},
		{"rows given up", count(r.Dropped)},
	}
	terminal.Table(w, []string{"", "count"}, rows)
	if len(r.Closes)+len(r.LinkFaults) > 0 {
		fmt.Fprintln(w)
		var rows [][]string
		for _, fault := range slices.Sorted(maps.Keys(r.LinkFaults)) {
			rows = append(rows, []string{"fault: " + fault, count(r.LinkFaults[fault])})
		}
		for _, reason := range slices.Sorted(maps.Keys(r.Closes)) {
			rows = append(rows, []string{"end: " + reason, count(r.Closes[reason])})
		}
		terminal.Table(w, []string{"connections", "count"}, rows)
	}
	r.printMisdeeds(w)
	r.printLatency(w)
	style := terminal.NewStyler(w)
	if r.Settled() {
		fmt.Fprintln(w, style.Good("settled: nothing that a device still has waits for an ack"))
		if lost := r.lost(); lost > 0 {
			fmt.Fprintf(w, "%s went with the memory of devices that rebooted before an ack arrived\n", terminal.Count(lost, "row"))
		}
		return
	}
	fmt.Fprintln(w, style.Bad("not settled, for want of acks: "+terminal.Count(len(r.Unsettled), "device")))
	for _, u := range r.Unsettled[:min(len(r.Unsettled), 20)] {
		fmt.Fprintf(w, "  %s, boot %d: acknowledged %d of %s\n", u.Device, u.Boot, u.Acked, terminal.Count(u.Sent, "row"))
	}
	if r.LastError != "" {
		fmt.Fprintln(w, "the last connection ended by:", r.LastError)
	}
}

func (r *Result) printMisdeeds(w io.Writer) {
	if len(r.Misdeeds) == 0 {
		return
	}
	fmt.Fprintln(w)
	var answered, undecided int
	var rows [][]string
	for _, tally := range r.Misdeeds {
		switch {
		case tally.Otherwise > 0:
			rows = append(rows, []string{tally.Name, strconv.FormatUint(tally.Otherwise, 10), tally.Detail})
		case tally.AsStated > 0:
			answered++
		default:
			undecided++
		}
	}
	fmt.Fprintf(w, "misdeeds over raw sockets: %s answered as the protocol states, %d otherwise, %d undecided\n",
		terminal.Count(answered, "kind"), len(rows), undecided)
	if len(rows) > 0 {
		terminal.Table(w, []string{"answered otherwise", "times", "how"}, rows)
	}
}

func (r *Result) printLatency(w io.Writer) {
	l := r.Latency
	if l.Count == 0 {
		return
	}
	most := int64(0)
	for _, bar := range l.Bars {
		most = max(most, bar.Count)
	}
	fmt.Fprintf(w, "\nack latency of %s: mean %s, p50 %s, p90 %s, p99 %s, p99.9 %s, max %s\n", terminal.Count(l.Count, "frame"),
		micros(l.Mean), micros(l.P50), micros(l.P90), micros(l.P99), micros(l.P999), micros(l.Max))
	for _, bar := range l.Bars {
		const width = 40
		length := int((bar.Count*width + most - 1) / most)
		fmt.Fprintf(w, "  %9s … %-9s %-*s %d\n", micros(bar.Least), micros(bar.Below), width,
			bars40[:3*length], bar.Count)
	}
}

// bars40 are forty bars of three bytes each.
const bars40 = "████████████████████████████████████████"

// micros shows a time with three digits.
func micros(us int64) string {
	d := time.Duration(us) * time.Microsecond
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	default:
		return d.String()
	}
}
