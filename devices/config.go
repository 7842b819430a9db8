package devices

import (
	"cmp"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a Registry needs to know. Zero fields take their defaults.
type Config struct {
	// URL of the database. Required.
	URL string
	// Gateway is the name of this server. Two servers should not share one; if
	// they do, see docs/decisions/053-leases.md. Required.
	Gateway string

	// CacheSize is the number of good credentials kept in memory, about 300
	// bytes each. Defaults to 100,000.
	CacheSize int
	// CacheFor is how long a good credential is trusted without asking again,
	// give or take a tenth. Changes are told at once by NOTIFY, so this matters
	// only for what no trigger sees. Defaults to 10 minutes.
	CacheFor time.Duration
	// RefusedSize is the number of refused credentials kept in memory. Defaults
	// to 16,384.
	RefusedSize int
	// RefusedFor is how long a refusal is repeated without asking again; new
	// credentials work at once all the same, by NOTIFY. Defaults to 10 seconds.
	RefusedFor time.Duration
	// Wait is how long Authenticate and OpenSession wait for Postgres, and how
	// long one query may take. Defaults to 5 seconds.
	Wait time.Duration
	// Waiting is the number of callers that may wait for Postgres, for
	// credentials and for sessions each; more get ErrBusy. Defaults to 65,536.
	Waiting int

	// FlushEvery is how often the progress of sessions is written that came in
	// meanwhile; refused handshakes are every fifth time. Ends are
	// written within a tenth of a second. Defaults to 1 second: a gateway tells of
	// each session's progress twice a minute, and what has gathered for longer is
	// not less, but comes at once.
	FlushEvery time.Duration
	// CheckEvery is how often the credential of each open session is checked, so
	// that one that expired ends its session; a share of the sessions at a time,
	// spread evenly. Defaults to 30 seconds.
	CheckEvery time.Duration
	// Lease is how long after its last sign of life a gateway counts as dead,
	// and its sessions as ended. It is renewed every third of that. Defaults to
	// 30 seconds.
	Lease time.Duration
	// KeepSessions is how long the record of an ended session is kept; the last
	// one of a device always is. Defaults to 90 days.
	KeepSessions time.Duration
	// Connections to Postgres at most, besides the listener's. Defaults to 4.
	Connections int

	// Logger defaults to one that discards.
	Logger *slog.Logger
	// Registerer of the metrics. Defaults to none.
	Registerer prometheus.Registerer

	tracer pgx.QueryTracer // tests count queries with it
}

func (c Config) withDefaults() (Config, error) {
	if c.URL == "" {
		return c, errors.New("devices: URL is empty")
	}
	if c.Gateway == "" {
		return c, errors.New("devices: Gateway is empty")
	}
	c.CacheSize = orDefault(c.CacheSize, 100_000)
	c.CacheFor = orDefault(c.CacheFor, 10*time.Minute)
	c.RefusedSize = orDefault(c.RefusedSize, 16_384)
	c.RefusedFor = orDefault(c.RefusedFor, 10*time.Second)
	c.Wait = orDefault(c.Wait, 5*time.Second)
	c.Waiting = orDefault(c.Waiting, 65_536)
	c.FlushEvery = orDefault(c.FlushEvery, time.Second)
	c.CheckEvery = orDefault(c.CheckEvery, 30*time.Second)
	c.Lease = orDefault(c.Lease, 30*time.Second)
	c.KeepSessions = orDefault(c.KeepSessions, 90*24*time.Hour)
	c.Connections = orDefault(c.Connections, 4)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// orDefault replaces what is zero or below.
func orDefault[T cmp.Ordered](value, fallback T) T {
	var zero T
	if value <= zero {
		return fallback
	}
	return value
}
