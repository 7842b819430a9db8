package devices

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	lookupHits     prometheus.Counter
	lookupRefusals prometheus.Counter
	lookupMisses   prometheus.Counter
	lookupBatch    prometheus.Histogram

	queries       *prometheus.CounterVec
	queryFailures *prometheus.CounterVec

	notifications     *prometheus.CounterVec
	notificationDelay prometheus.Histogram
	listenReconnects  prometheus.Counter

	sessionsOpened    prometheus.Counter
	sessionsEnded     prometheus.Counter
	sessionsRecovered prometheus.Counter
	unknownSessions   prometheus.Counter
	flushFailures     prometheus.Counter
	leasesLost        prometheus.Counter
	refusedDropped    prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	with := promauto.With(registerer) // nil: made, but registered nowhere
	counter := func(name, help string) prometheus.Counter {
		return with.NewCounter(prometheus.CounterOpts{Namespace: "mooring", Subsystem: "devices", Name: name, Help: help})
	}
	vector := func(name, help, label string) *prometheus.CounterVec {
		return with.NewCounterVec(prometheus.CounterOpts{Namespace: "mooring", Subsystem: "devices", Name: name, Help: help}, []string{label})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return with.NewHistogram(prometheus.HistogramOpts{Namespace: "mooring", Subsystem: "devices", Name: name, Help: help, Buckets: buckets})
	}
	lookups := vector("credential_lookups_total", "Credentials checked, by where the answer came from: hit, refused (from memory) or miss.", "answer")
	return &metrics{
		lookupHits:     lookups.WithLabelValues("hit"),
		lookupRefusals: lookups.WithLabelValues("refused"),
		lookupMisses:   lookups.WithLabelValues("miss"),
		lookupBatch:    histogram("credential_batch_size", "Credentials asked for in one query.", prometheus.ExponentialBuckets(1, 4, 7)),

		queries:       vector("queries_total", "Statements sent to Postgres, by purpose.", "purpose"),
		queryFailures: vector("query_failures_total", "Statements that failed, by purpose.", "purpose"),

		notifications:     vector("notifications_total", "Changes of credentials heard of, by kind.", "kind"),
		notificationDelay: histogram("notification_delay_seconds", "From the start of the changing transaction, by the database's clock, until it was heard of, by this server's.", prometheus.ExponentialBuckets(0.001, 4, 8)),
		listenReconnects:  counter("listen_reconnects_total", "Times the listening connection was lost and made anew."),

		sessionsOpened:    counter("sessions_opened_total", "Sessions recorded as open."),
		sessionsEnded:     counter("sessions_ended_total", "Sessions recorded as ended."),
		sessionsRecovered: counter("sessions_recovered_total", "Sessions of dead gateways that this one closed."),
		unknownSessions:   counter("sessions_unknown_total", "Ends of sessions that are not open; they are ignored."),
		flushFailures:     counter("session_flush_failures_total", "Writes of sessions' progress and ends that failed and are tried again."),
		refusedDropped:    counter("refused_handshakes_unrecorded_total", "Refused handshakes of devices that mooring.refused_handshakes lacks, because there were too many or it could not be written."),
		leasesLost:        counter("leases_lost_total", "Times another gateway took this one for dead; its sessions were opened again."),
	}
}

// observe registers gauges that are read from the registry itself.
func (r *Registry) observe(registerer prometheus.Registerer) {
	with := promauto.With(registerer)
	gauge := func(name, help string, read func() int) {
		with.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "mooring", Subsystem: "devices", Name: name, Help: help},
			func() float64 { return float64(read()) })
	}
	gauge("sessions_open", "Sessions that this gateway holds.", func() int { open, _ := r.book.size(); return open })
	gauge("sessions_unwritten_ends", "Sessions that ended and whose end is not yet in Postgres.", func() int { _, ended := r.book.size(); return ended })
	gauge("away", "1 while Postgres does not answer the registry and devices are turned away with HTTP 503, else 0.", func() int {
		if r.health.away(time.Now()) {
			return 1
		}
		return 0
	})
	gauge("credentials_cached", "Good credentials in memory.", r.cache.size)
}

// purposeTracer counts every statement by the purpose its context names.
type purposeTracer struct {
	metrics *metrics
	next    pgx.QueryTracer // nil: none
}

type purposeKey struct{}

// withPurpose names what the statements under this context are for.
func withPurpose(ctx context.Context, purpose string) context.Context {
	return context.WithValue(ctx, purposeKey{}, purpose)
}

func purposeOf(ctx context.Context) string {
	purpose, ok := ctx.Value(purposeKey{}).(string)
	if !ok {
		return "other"
	}
	return purpose
}

func (t *purposeTracer) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	t.metrics.queries.WithLabelValues(purposeOf(ctx)).Inc()
	if t.next != nil {
		return t.next.TraceQueryStart(ctx, conn, data)
	}
	return ctx
}

func (t *purposeTracer) TraceQueryEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryEndData) {
	if data.Err != nil {
		t.metrics.queryFailures.WithLabelValues(purposeOf(ctx)).Inc()
	}
	if t.next != nil {
		t.next.TraceQueryEnd(ctx, conn, data)
	}
}
