package live

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	refused  *prometheus.CounterVec // by reason
	closed   *prometheus.CounterVec // by reason
	messages *prometheus.CounterVec // by transport
	bytes    prometheus.Counter
	skipped  *prometheus.CounterVec // by what
	resumed  *prometheus.CounterVec // by outcome
	folding  prometheus.Counter
	asking   prometheus.Counter
	faults   prometheus.Counter
	watched  prometheus.Gauge
	remote   prometheus.Gauge
}

func newMetrics(registerer prometheus.Registerer, h *Hub) (*metrics, error) {
	const namespace = "mooring_live_"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: namespace + name, Help: help})
	}
	vector := func(name, help, label string, values ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: namespace + name, Help: help}, []string{label})
		for _, value := range values {
			v.WithLabelValues(value)
		}
		return v
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: namespace + name, Help: help})
	}
	m := &metrics{
		refused:  vector("refusals_total", "Viewers refused, by reason: full, user (who looks on too often), filter, database.", "reason", "full", "user", "filter", "database"),
		closed:   vector("closes_total", "Viewers that left or were sent away, by reason: gone, slow, silent, login, flood, database, stopping, fault (of this program).", "reason", closings...),
		messages: vector("messages_total", "Messages sent to viewers, by transport.", "transport", "websocket", "sse"),
		bytes:    counter("bytes_total", "Bytes of messages sent to viewers."),
		skipped:  vector("skipped_total", "What viewers were told that they were not told: events that the ring no longer held, channels that found no room, devices beyond the limit, losses of the connection that brings news of commands.", "what", "events", "channels", "devices", "commands"),
		resumed:  vector("resumes_total", "Cursors shown by viewers, by outcome: resumed, or fresh when a snapshot was sent instead.", "outcome", "resumed", "fresh"),
		folding:  counter("fold_seconds_total", "Time that bringing committed readings into the table took."),
		asking:   counter("ask_seconds_total", "Time that asking the database for viewers took."),
		faults:   counter("ask_faults_total", "Rounds in which the database did not answer viewers' questions."),
		watched:  gauge("devices", "Devices whose readings somebody watches."),
		remote:   gauge("remote_devices", "Of these, those that are read from the database because another server holds them."),
	}
	if registerer == nil {
		return m, nil
	}
	read := func(name, help string, value func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: namespace + name, Help: help}, func() float64 {
			h.mu.RLock()
			defer h.mu.RUnlock()
			return float64(value())
		})
	}
	var faults []error
	for _, collector := range []prometheus.Collector{
		m.refused, m.closed, m.messages, m.bytes, m.skipped, m.resumed, m.folding, m.asking, m.faults, m.watched, m.remote,
		read("viewers", "Viewers connected.", func() int { return h.open }),
		read("values", "Channels of watched devices in memory.", func() int { return h.values }),
	} {
		faults = append(faults, registerer.Register(collector))
	}
	return m, errors.Join(faults...)
}
