package fleet

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Phase is what a run is doing.
type Phase string

// The phases of a run.
const (
	PhaseMeasuring Phase = "measuring"
	PhaseSettling  Phase = "settling"
	PhaseDone      Phase = "done"
)

// Progress is how a run goes.
type Progress struct {
	Phase     Phase
	Elapsed   time.Duration
	Devices   int
	Connected int
	Produced  uint64 // rows made
	Acked     uint64 // rows acknowledged
	Refused   uint64 // rows and values that the server said it refused
	Reboots   uint64
	// RowsPerSecond is the rate of acknowledgements since the last report.
	RowsPerSecond float64
	// P50 and P99 are ack latencies since the start: from the sending of a frame
	// to the arrival of its ack.
	P50, P99 time.Duration
	// RecentP99 is that of the acks since the last report; 0: there were none.
	RecentP99 time.Duration
}

// latencies are histograms of ack latencies, in microseconds.
type latencies struct {
	mu        *sync.Mutex
	histogram *hdrhistogram.Histogram
	recent    *hdrhistogram.Histogram // since the last report
}

const (
	leastLatency = 1
	mostLatency  = 3600 * 1_000_000 // an hour
)

func newLatencies() latencies {
	return latencies{
		mu:        new(sync.Mutex),
		histogram: hdrhistogram.New(leastLatency, mostLatency, 2), recent: hdrhistogram.New(leastLatency, mostLatency, 2),
	}
}

func (l *latencies) record(all []time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, latency := range all {
		value := min(max(latency.Microseconds(), leastLatency), mostLatency)
		_ = l.histogram.RecordValue(value) // within its range
		_ = l.recent.RecordValue(value)
	}
}

// merged is the histogram of all devices.
func (r *run) merged() *hdrhistogram.Histogram {
	all := hdrhistogram.New(leastLatency, mostLatency, 2)
	for i := range r.latencies {
		r.latencies[i].mu.Lock()
		all.Merge(r.latencies[i].histogram)
		r.latencies[i].mu.Unlock()
	}
	return all
}

// recent is the histogram of all devices since it was asked for last.
func (r *run) recent() *hdrhistogram.Histogram {
	all := hdrhistogram.New(leastLatency, mostLatency, 2)
	for i := range r.latencies {
		r.latencies[i].mu.Lock()
		all.Merge(r.latencies[i].recent)
		r.latencies[i].recent.Reset()
		r.latencies[i].mu.Unlock()
	}
	return all
}

func quantile(histogram *hdrhistogram.Histogram, q float64) time.Duration {
	return time.Duration(histogram.ValueAtQuantile(q)) * time.Microsecond
}

// report tells OnProgress; it is called from one goroutine at a time.
func (r *run) report(phase Phase) {
	now, acked := time.Now(), r.acked.Load()
	histogram := r.merged()
	progress := Progress{
		Phase: phase, Elapsed: now.Sub(r.started), Devices: len(r.devices), Connected: int(r.online.Load()),
		Produced: r.produced.Load(), Acked: acked, Refused: r.refused.Load(), Reboots: r.reboots.Load(),
		P50: quantile(histogram, 50), P99: quantile(histogram, 99), RecentP99: quantile(r.recent(), 99),
	}
	if since := now.Sub(r.reported).Seconds(); since > 0 {
		progress.RowsPerSecond = float64(acked-r.reportedAcked) / since
	}
	r.reported, r.reportedAcked = now, acked
	r.cfg.OnProgress(progress)
}
