package storage

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what a Store tells Prometheus.
type metrics struct {
	batches    *prometheus.CounterVec // by path
	rows       *prometheus.CounterVec // by path
	batchRows  prometheus.Histogram
	seconds    *prometheus.HistogramVec // by path
	duplicates prometheus.Counter
	rejected   prometheus.Counter
	suppressed prometheus.Counter
	retries    *prometheus.CounterVec // by class
	available  prometheus.Gauge

	partitions        prometheus.Gauge
	partitionsCreated prometheus.Counter
	partitionsDropped prometheus.Counter

	rejectsRecorded prometheus.Counter
	rejectsDropped  *prometheus.CounterVec // by reason
	layoutsRefused  prometheus.Counter
	viewProblems    prometheus.Counter
	unsettled       prometheus.Gauge
}

// The ways a batch can take.
const (
	pathCopy     = "copy"
	pathLookUp   = "lookup" // COPY of what was not found stored
	pathRecall   = "recall" // found committed, the answer had been lost
	pathConflict = "conflict"
)

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "mooring", Subsystem: "storage", Name: name, Help: help})
	}
	counters := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(
			prometheus.CounterOpts{Namespace: "mooring", Subsystem: "storage", Name: name, Help: help}, []string{label})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "mooring", Subsystem: "storage", Name: name, Help: help})
	}
	m := &metrics{
		batches: counters("batches_total", "Batches committed, by the path they took.", "path"),
		rows:    counters("rows_total", "Rows committed, duplicates not counted, by the path they took.", "path"),
		batchRows: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "mooring", Subsystem: "storage", Name: "batch_rows",
			Help: "Rows in a committed batch.", Buckets: prometheus.ExponentialBuckets(1, 4, 10),
		}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "mooring", Subsystem: "storage", Name: "commit_seconds",
			Help: "Time from the first byte of a batch to its commit.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"path"}),
		duplicates: counter("rows_duplicate_total", "Rows that were stored before."),
		rejected:   counter("rows_rejected_total", "Rows that Postgres refused for good."),
		suppressed: counter("rows_suppressed_total", "Rows that a trigger of the operator made Postgres skip."),
		retries:    counters("retries_total", "Attempts that failed and were tried again, by class of failure.", "class"),
		available:  gauge("available", "1 if the last contact with Postgres succeeded, else 0."),

		partitions:        gauge("partitions", "Partitions of samples."),
		partitionsCreated: counter("partitions_created_total", "Partitions created by this process."),
		partitionsDropped: counter("partitions_dropped_total", "Partitions dropped by this process because of their age."),

		rejectsRecorded: counter("rejects_recorded_total", "Refusals recorded in mooring.rejects."),
		rejectsDropped:  counters("rejects_dropped_total", "Refusals not recorded one by one, by reason: rate, queue or error.", "reason"),
		layoutsRefused:  counter("layouts_refused_total", "Layouts refused because of their number."),
		viewProblems:    counter("layout_view_problems_total", "Wide views that could not be made as one would expect; see mooring.layout_views."),
		unsettled:       gauge("latest_unsettled", "Device and layout pairs whose last known values are not in mooring.device_layouts yet."),
	}
	if registerer == nil {
		return m, nil
	}
	for _, collector := range []prometheus.Collector{
		m.batches, m.rows, m.batchRows, m.seconds, m.duplicates, m.rejected, m.suppressed, m.retries, m.available,
		m.partitions, m.partitionsCreated, m.partitionsDropped,
		m.rejectsRecorded, m.rejectsDropped, m.layoutsRefused, m.viewProblems, m.unsettled,
	} {
		if err := registerer.Register(collector); err != nil {
			if already := (prometheus.AlreadyRegisteredError{}); errors.As(err, &already) {
				return nil, fmt.Errorf("storage: metrics: two stores on one registerer: %w", err)
			}
			return nil, fmt.Errorf("storage: metrics: %w", err)
		}
	}
	return m, nil
}
