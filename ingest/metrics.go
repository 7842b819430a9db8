package ingest

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the gateway's figures. What every row or frame would touch is
// counted under the shards' locks and only read here.
type metrics struct {
	opened           prometheus.Counter
	closes           *prometheus.CounterVec
	refusals         *prometheus.CounterVec
	panics           prometheus.Counter
	heartbeatsMissed prometheus.Counter
	layoutsRejected  prometheus.Counter
	writeErrors      prometheus.Counter
	acks             prometheus.Counter
	throttles        prometheus.Counter
	quotaRefusals    prometheus.Counter

	frames                                              *prometheus.CounterVec
	helloFrames, layoutFrames, resultFrames, pingFrames prometheus.Counter
	framesIgnored                                       prometheus.Counter

	batchRows, batchBytes, writeSeconds, ackSeconds prometheus.Histogram
}

const namespace = "mooring_ingest_"

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: namespace + name, Help: help})
	}
	vector := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: namespace + name, Help: help}, []string{label})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: namespace + name, Help: help, Buckets: buckets})
	}
	seconds := []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60}
	m := &metrics{
		opened:           counter("connections_opened_total", "Connections upgraded."),
		closes:           vector("closes_total", "Sessions ended, by reason.", "reason"),
		refusals:         vector("handshake_refusals_total", "Handshakes refused, by reason.", "reason"),
		panics:           counter("panics_total", "Panics recovered in sessions."),
		heartbeatsMissed: counter("heartbeats_missed_total", "Connections dropped because nothing was heard."),
		layoutsRejected:  counter("layouts_rejected_total", "Layouts refused."),
		writeErrors:      counter("write_errors_total", "Batches that the store gave back although it should not."),
		acks:             counter("acks_total", "ACK frames written."),
		throttles:        counter("throttles_total", "Devices told to slow down, because of their quota."),
		quotaRefusals:    counter("quota_refused_rows_total", "Rows refused because the device had sent more than its quota."),
		frames:           vector("frames_total", "Frames received other than DATA, by type.", "type"),
		batchRows:        histogram("batch_rows", "Rows of a written batch.", prometheus.ExponentialBuckets(1, 4, 10)),
		batchBytes:       histogram("batch_bytes", "Encoded bytes of a written batch.", prometheus.ExponentialBuckets(256, 4, 10)),
		writeSeconds:     histogram("write_seconds", "Time for the store to commit a batch.", seconds),
		ackSeconds:       histogram("ack_seconds", "Time from a frame's receipt to the writing of its ACK, of the oldest frame of each ACK.", seconds),
	}
	m.helloFrames = m.frames.WithLabelValues("hello")
	m.layoutFrames = m.frames.WithLabelValues("layout")
	m.resultFrames = m.frames.WithLabelValues("result")
	m.pingFrames = m.frames.WithLabelValues("ping")
	m.framesIgnored = m.frames.WithLabelValues("ignored")
	return m
}

// register shows the metrics, those kept in shards included.
func (m *metrics) register(registerer prometheus.Registerer, g *Gateway) error {
	if registerer == nil {
		return nil
	}
	collectors := []prometheus.Collector{
		m.opened, m.closes, m.refusals, m.panics, m.heartbeatsMissed, m.layoutsRejected, m.writeErrors, m.acks,
		m.throttles, m.quotaRefusals,
		m.frames, m.batchRows, m.batchBytes, m.writeSeconds, m.ackSeconds,
	}
	gauge := func(name, help string, read func(Stats) float64) {
		collectors = append(collectors, prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: namespace + name, Help: help}, func() float64 { return read(g.Stats()) }))
	}
	gauge("connections", "Connections held, handshakes under way included.",
		func(s Stats) float64 { return float64(s.Connections) })
	gauge("connections_resting", "Connections that are silent and hold little memory.",
		func(s Stats) float64 { return float64(s.Resting) })
	gauge("sessions_blocked", "Sessions that wait for room among the uncommitted rows.",
		func(s Stats) float64 { return float64(s.Blocked) })
	gauge("bytes_waiting", "Encoded bytes received and not yet committed.",
		func(s Stats) float64 { return float64(s.BytesWaiting) })

	door := func(name, help string, read func() int) {
		collectors = append(collectors, prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: namespace + name, Help: help}, func() float64 { return float64(read()) }))
	}
	door("connections_unfinished", "Connections that have not brought their first frame.", g.door.Visits)
	door("addresses_remembered", "Addresses whose rates are remembered.", g.door.Remembered)
	evicted := func(scope string, read func() uint64) {
		collectors = append(collectors, prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: namespace + "connections_evicted_total", ConstLabels: prometheus.Labels{"limit": scope},
			Help: "Unfinished connections closed to make room for newer ones, by the limit that was reached: all or address.",
		}, func() float64 { return float64(read()) }))
	}
	evicted("all", func() uint64 { return g.door.Evicted().All })
	evicted("address", func() uint64 { return g.door.Evicted().Address })
	gauge("rows_waiting", "Rows received and not yet settled.",
		func(s Stats) float64 { return float64(s.RowsWaiting) })
	gauge("rows_unaccounted", "Rows received less committed, duplicate, rejected, returned and waiting ones, in one snapshot. Anything but 0 is a fault.",
		func(s Stats) float64 { return float64(s.Unaccounted()) })

	count := func(name, help string, labels prometheus.Labels, read func(Stats) uint64) {
		collectors = append(collectors, prometheus.NewCounterFunc(
			prometheus.CounterOpts{Name: namespace + name, Help: help, ConstLabels: labels},
			func() float64 { return float64(read(g.Stats())) }))
	}
	count("data_frames_total", "DATA frames received.", nil, func(s Stats) uint64 { return s.Frames })
	const rows, rowsHelp = "rows_total", "Rows by outcome: received counts all but lost; lost were given up by devices; returned were not acknowledged when the server stopped."
	count(rows, rowsHelp, prometheus.Labels{"outcome": "received"}, func(s Stats) uint64 { return s.RowsIn })
	count(rows, rowsHelp, prometheus.Labels{"outcome": "committed"}, func(s Stats) uint64 { return s.RowsCommitted })
	count(rows, rowsHelp, prometheus.Labels{"outcome": "duplicate"}, func(s Stats) uint64 { return s.RowsDuplicate })
	count(rows, rowsHelp, prometheus.Labels{"outcome": "rejected"}, func(s Stats) uint64 { return s.RowsRejected })
	count(rows, rowsHelp, prometheus.Labels{"outcome": "returned"}, func(s Stats) uint64 { return s.RowsReturned })
	count(rows, rowsHelp, prometheus.Labels{"outcome": "lost"}, func(s Stats) uint64 { return s.RowsLost })

	collectors = append(collectors, prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: namespace + "sweep_seconds_total", Help: "Time that looking at all sessions' timers took.",
	}, func() float64 { return time.Duration(g.sweeping.Load()).Seconds() }))
	var faults []error
	for _, collector := range collectors {
		faults = append(faults, registerer.Register(collector))
	}
	return errors.Join(faults...)
}

// batch counts a committed batch.
func (m *metrics) batch(b *batch, took time.Duration) {
	if b.count == 0 {
		return
	}
	m.batchRows.Observe(float64(b.count))
	m.batchBytes.Observe(float64(len(b.rows)))
	m.writeSeconds.Observe(took.Seconds())
}
