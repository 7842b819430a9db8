package ingest

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// latencyPeriod is how long one set of counts gathers.
const latencyPeriod = 10 * time.Second

// latencies tells quantiles of the recent past: two sets of counts, the current
// one and the one before, in buckets an eighth of an octave wide. The zero value
// is ready.
type latencies struct {
	sets    [3][latencyBuckets]atomic.Uint32 // current, previous, and one being cleared
	current atomic.Uint32
}

// latencyBuckets cover 1 µs to over an hour.
const latencyBuckets = 33 * 8

// observe counts one latency, in nanoseconds.
func (l *latencies) observe(nanos int64) {
	l.sets[l.current.Load()][latencyBucket(nanos)].Add(1)
}

func latencyBucket(nanos int64) int {
	micros := uint64(max(nanos/1000, 1))
	octave := bits.Len64(micros) - 1
	// The three bits below the leading one.
	eighth := (micros << 3 >> octave) & 7
	return min(octave*8+int(eighth), latencyBuckets-1)
}

// latencyLimit is a bucket's upper end.
func latencyLimit(bucket int) time.Duration {
	octave, eighth := bucket/8, bucket%8
	return time.Duration(uint64(9+eighth)<<octave>>3) * time.Microsecond
}

// turn begins a new set. One caller at a time.
func (l *latencies) turn() {
	current := l.current.Load()
	next := (current + 1) % 3
	for i := range l.sets[next] {
		l.sets[next][i].Store(0)
	}
	l.current.Store(next)
}

// quantile gives the upper end of the bucket in which the q-quantile lies; 0:
// nothing was observed.
func (l *latencies) quantile(q float64) time.Duration {
	current := l.current.Load()
	previous := (current + 2) % 3
	var counts [latencyBuckets]uint64
	var total uint64
	for i := range counts {
		counts[i] = uint64(l.sets[current][i].Load()) + uint64(l.sets[previous][i].Load())
		total += counts[i]
	}
	if total == 0 {
		return 0
	}
	rank := uint64(q * float64(total))
	for i, n := range counts {
		if n > rank {
			return latencyLimit(i)
		}
		rank -= n
	}
	return latencyLimit(latencyBuckets - 1)
}
