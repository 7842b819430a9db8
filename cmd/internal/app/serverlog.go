package app

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// handshakeEvery is how often a failed TLS handshake is logged; the metric counts
// every one. A fleet whose authority has expired fails by the thousands.
const handshakeEvery = 10 * time.Second

// handshakeFailed begins what net/http says of a failed TLS handshake, before
// ADDRESS: REASON.
const handshakeFailed = "http: TLS handshake error from "

// serverLog takes what net/http has to say and passes it on for those who look
// closely. Failed TLS handshakes it counts, and tells one of them in ten seconds.
type serverLog struct {
	slog.Handler
	tlsFailures prometheus.Counter

	mu      *sync.Mutex
	told    *time.Time // when a handshake was logged last
	skipped *uint64    // handshakes since then
}

func newServerLog(handler slog.Handler, tlsFailures prometheus.Counter) serverLog {
	return serverLog{Handler: handler, tlsFailures: tlsFailures, mu: new(sync.Mutex), told: new(time.Time), skipped: new(uint64)}
}

// Enabled is always true, so that Handle can count.
func (serverLog) Enabled(context.Context, slog.Level) bool { return true }

// Handle counts, and logs what is to be logged.
func (l serverLog) Handle(ctx context.Context, record slog.Record) error {
	if what, ok := strings.CutPrefix(record.Message, handshakeFailed); ok {
		l.tlsFailures.Inc()
		if told, due := l.tell(record.Time, what); due && l.Handler.Enabled(ctx, told.Level) {
			return l.Handler.Handle(ctx, told)
		}
	}
	if !l.Handler.Enabled(ctx, record.Level) {
		return nil
	}
	return l.Handler.Handle(ctx, record)
}

// tell makes the line about a failed handshake, if one is due. Who connects and
// goes without a word, as balancers do to see whether somebody is there, makes none.
func (l serverLog) tell(now time.Time, what string) (told slog.Record, due bool) {
	remote, reason, _ := strings.Cut(what, ": ")
	if reason == "EOF" {
		return told, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(*l.told) < handshakeEvery {
		*l.skipped++
		return told, false
	}
	told = slog.NewRecord(now, slog.LevelWarn, "TLS handshake failed", 0)
	told.AddAttrs(slog.String("remote", remote), slog.String("error", reason), slog.Uint64("others", *l.skipped))
	*l.told, *l.skipped = now, 0
	return told, true
}
