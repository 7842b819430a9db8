package ingest

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mooring/ingest/door"
	"mooring/wire"
)

// Heartbeats outside of these are not granted (PROTOCOL §4.1).
const (
	MinHeartbeat = 5 * time.Second
	MaxHeartbeat = 900 * time.Second
)

// Config sets a gateway's limits and habits. The zero value is a good default.
type Config struct {
	// MaxConnections is the number of connections held at a time; further
	// handshakes are answered with 503. Defaults to 100,000.
	MaxConnections int
	// MaxHandshakes is the number of credentials that the Authenticator is asked
	// for at a time beyond what it has in memory; further ones are answered with
	// 503, so that a storm waits outside. Defaults to 256.
	MaxHandshakes int
	// HandshakeTimeout bounds a handshake's authentication and the writing of
	// its answer. Defaults to 10 s.
	HandshakeTimeout time.Duration
	// CheckOrigin tells whether a handshake with an Origin header may go on;
	// browsers send it, devices don't. Defaults to the same host only.
	CheckOrigin func(r *http.Request) bool

	// Door is who may come in before anybody knows who it is: rates of
	// handshakes, unfinished connections, proxies. Defaults as door.Config says.
	Door door.Config

	// RequireCertificate refuses handshakes without a verified TLS client
	// certificate, with 401. Defaults to taking tokens too.
	RequireCertificate bool
	// RowRate and ByteRate are the rows, and the bytes of DATA frames, that a
	// device may send a second, unless Device says otherwise. Default to no limit.
	RowRate, ByteRate int

	// FirstFrame is how long a new connection may take to send its first frame.
	// Defaults to 10 s.
	FirstFrame time.Duration
	// OpenTimeout is how long a session waits for SessionLog.Open, for example
	// while the database is away. Defaults to 60 s.
	OpenTimeout time.Duration
	// Heartbeat is the silence after which a device is pinged, unless it wishes
	// for another; a whole number of seconds, 5 s to 900 s. Defaults to 30 s.
	Heartbeat time.Duration
	// Spread is the time over which devices spread their reconnects; a whole
	// number of seconds. Defaults to 30 s.
	Spread time.Duration
	// MaxFrame is the largest message taken, in bytes, 256 to 65,536. Defaults
	// to 16,384.
	MaxFrame int
	// MaxFragments is the number of WebSocket fragments a message may come in;
	// empty ones never reach MaxFrame. Defaults to 1,024.
	MaxFragments int
	// MessageTimeout is how long a message, or a control frame, may take from its
	// first byte to its last; time in which the gateway does not read is not
	// counted. Found within ProgressInterval. Defaults to 2 min.
	MessageTimeout time.Duration
	// ControlRate is the number of frames other than DATA, WebSocket Pings and
	// Pongs included, that a device may send a second for long; those of 20 s may
	// come at once. Defaults to 20.
	ControlRate int
	// Window is the number of DATA frames a device may have unacknowledged.
	// Defaults to 16.
	Window int
	// Oldest is the oldest time a row may have. Defaults to none, so that
	// OldestAge decides. With both, the later of the two times holds.
	Oldest time.Time
	// OldestAge is how old a row may be. Defaults to one year (365 days), with
	// Oldest to any age.
	OldestAge time.Duration
	// NewestAhead is how far ahead of the server's clock a row may be. Defaults
	// to 10 minutes.
	NewestAhead time.Duration
	// ReadBuffer is the size of a connection's read buffer in bytes. Defaults
	// to 1,024: an idle connection costs little, and larger frames bypass it.
	ReadBuffer int
	// WriteBuffer is what the kernel is asked to keep at most of what a device has
	// not read yet, in bytes (SO_SNDBUF, which Linux doubles); left alone, it
	// grows to megabytes for a device that reads nothing. Defaults to 16 KiB:
	// messages to devices are small.
	WriteBuffer int

	// RestAfter is the silence after which a connection's buffer and the larger
	// part of its stack are given back until something comes in again. Defaults
	// to 2 s.
	RestAfter time.Duration

	// Writers is the number of shards, each with a writer of its own. Defaults
	// to 2.
	Writers int
	// MaxBatchBytes bounds the encoded rows of one batch. A writer has one
	// batch in the store's hands and one that gathers, so a gateway holds at
	// most 2 · Writers · MaxBatchBytes not yet committed. Defaults to 4 MiB.
	MaxBatchBytes int
	// AckGoal is how long the write of a large batch may take before windows are
	// made smaller, so that acks don't take seconds when the database is the limit.
	// Defaults to 250 ms.
	AckGoal time.Duration
	// Linger is how long a writer waits for more rows once it has some: fewer
	// commits for later acks. Defaults to 0; a writer takes what gathered while
	// its last write was under way.
	Linger time.Duration

	// WriteTimeout is how long a device may leave what is sent to it unread.
	// Defaults to 10 s.
	WriteTimeout time.Duration
	// CloseTimeout bounds the farewell of a connection: writing the close frame
	// and waiting for the other side's. Defaults to 2 s.
	CloseTimeout time.Duration
	// MaxOutbox bounds the frames, other than ACKs and Pongs, that wait to be
	// sent to one device, in bytes. Defaults to 4,096.
	MaxOutbox int

	// Tick is how often timers are looked at; a dead link is found within one
	// tick of its deadline. Defaults to 500 ms.
	Tick time.Duration
	// ProgressInterval is how often a session's progress is recorded. Defaults
	// to 30 s.
	ProgressInterval time.Duration
	// DrainGrace is how long Stop goes on reading and acknowledging after it
	// has told every device to go away. Defaults to 5 s.
	DrainGrace time.Duration

	// OnWelcomed is told of every session that SendCommand reaches from now on; it
	// must not block.
	OnWelcomed func(device Device)
	// OnResult receives the answers to commands; it must not block and must not
	// keep the result's Detail. Defaults to dropping them, counted.
	OnResult func(device Device, result wire.Result)
	// Logger receives what people should know. Defaults to nowhere.
	Logger *slog.Logger
	// Registerer takes the metrics. Defaults to none: they are kept but not
	// shown.
	Registerer prometheus.Registerer
}

func orDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

// withDefaults fills in what is not set.
func (c Config) withDefaults() Config {
	orDefault(&c.MaxConnections, 100_000)
	orDefault(&c.MaxHandshakes, 256)
	orDefault(&c.HandshakeTimeout, 10*time.Second)
	c.Door = c.Door.WithDefaults()
	orDefault(&c.FirstFrame, 10*time.Second)
	orDefault(&c.OpenTimeout, time.Minute)
	orDefault(&c.Heartbeat, 30*time.Second)
	orDefault(&c.Spread, 30*time.Second)
	orDefault(&c.MaxFrame, 16<<10)
	orDefault(&c.MaxFragments, 1024)
	orDefault(&c.MessageTimeout, 2*time.Minute)
	orDefault(&c.ControlRate, 20)
	orDefault(&c.Window, 16)
	if c.Oldest.IsZero() {
		orDefault(&c.OldestAge, 365*24*time.Hour)
	}
	orDefault(&c.NewestAhead, 10*time.Minute)
	orDefault(&c.ReadBuffer, 1024)
	orDefault(&c.WriteBuffer, 16<<10)
	orDefault(&c.RestAfter, 2*time.Second)
	orDefault(&c.Writers, 2)
	orDefault(&c.MaxBatchBytes, 4<<20)
	orDefault(&c.AckGoal, 250*time.Millisecond)
	orDefault(&c.WriteTimeout, 10*time.Second)
	orDefault(&c.CloseTimeout, 2*time.Second)
	orDefault(&c.MaxOutbox, 4096)
	orDefault(&c.Tick, 500*time.Millisecond)
	orDefault(&c.ProgressInterval, 30*time.Second)
	orDefault(&c.DrainGrace, 5*time.Second)
	if c.CheckOrigin == nil {
		c.CheckOrigin = sameOrigin
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// validate names every field that can't be.
func (c Config) validate() error {
	var faults []error
	need := func(ok bool, field, want string, is any) {
		if !ok {
			faults = append(faults, fmt.Errorf("field Config.%s must be %s, not %v", field, want, is))
		}
	}
	need(c.MaxConnections > 0, "MaxConnections", "positive", c.MaxConnections)
	need(c.MaxHandshakes > 0, "MaxHandshakes", "positive", c.MaxHandshakes)
	need(c.HandshakeTimeout > 0, "HandshakeTimeout", "positive", c.HandshakeTimeout)
	need(c.FirstFrame > 0, "FirstFrame", "positive", c.FirstFrame)
	need(c.RowRate >= 0 && c.RowRate <= 1_000_000_000, "RowRate", "0 to 1,000,000,000", c.RowRate)
	need(c.ByteRate >= 0 && c.ByteRate <= 1_000_000_000, "ByteRate", "0 to 1,000,000,000", c.ByteRate)
	need(c.OpenTimeout > 0, "OpenTimeout", "positive", c.OpenTimeout)
	need(c.Heartbeat >= MinHeartbeat && c.Heartbeat <= MaxHeartbeat && c.Heartbeat%time.Second == 0,
		"Heartbeat", "a whole number of seconds from 5 s to 900 s", c.Heartbeat)
	need(c.Spread > 0 && c.Spread <= 65_535*time.Second && c.Spread%time.Second == 0,
		"Spread", "a whole number of seconds up to 65,535", c.Spread)
	need(c.MaxFrame >= 256 && c.MaxFrame <= 64<<10, "MaxFrame", "256 to 65536", c.MaxFrame)
	need(c.MaxFragments >= 1 && c.MaxFragments <= 1<<20, "MaxFragments", "1 to 1048576", c.MaxFragments)
	need(c.MessageTimeout > 0, "MessageTimeout", "positive", c.MessageTimeout)
	need(c.ControlRate >= 1 && c.ControlRate <= 1_000_000, "ControlRate", "1 to 1000000", c.ControlRate)
	need(c.Window >= 1 && c.Window <= 1024, "Window", "1 to 1024", c.Window)
	need(c.OldestAge >= 0, "OldestAge", "positive", c.OldestAge)
	need(c.NewestAhead > 0, "NewestAhead", "positive", c.NewestAhead)
	need(c.ReadBuffer >= 64 && c.ReadBuffer <= 1<<20, "ReadBuffer", "64 to 1048576", c.ReadBuffer)
	need(c.WriteBuffer >= 4<<10 && c.WriteBuffer <= 16<<20, "WriteBuffer", "4096 to 16777216", c.WriteBuffer)
	need(c.RestAfter > 0, "RestAfter", "positive", c.RestAfter)
	need(c.Writers >= 1 && c.Writers <= 256, "Writers", "1 to 256", c.Writers)
	need(c.MaxBatchBytes >= 64<<10 && c.MaxBatchBytes <= 1<<30, "MaxBatchBytes", "64 KiB to 1 GiB", c.MaxBatchBytes)
	need(c.AckGoal > 0, "AckGoal", "positive", c.AckGoal)
	need(c.Linger >= 0 && c.Linger <= time.Minute, "Linger", "0 to 1 min", c.Linger)
	need(c.WriteTimeout > 0, "WriteTimeout", "positive", c.WriteTimeout)
	need(c.CloseTimeout > 0, "CloseTimeout", "positive", c.CloseTimeout)
	need(c.MaxOutbox >= 1024, "MaxOutbox", "1024 or more", c.MaxOutbox)
	need(c.Tick > 0 && c.Tick <= time.Second, "Tick", "up to 1 s", c.Tick)
	need(c.ProgressInterval > 0, "ProgressInterval", "positive", c.ProgressInterval)
	need(c.DrainGrace > 0, "DrainGrace", "positive", c.DrainGrace)
	if err := errors.Join(errors.Join(faults...), c.Door.Validate()); err != nil {
		return fmt.Errorf("ingest: %w", err)
	}
	return nil
}

// timeRange gives the times that rows may have now, in microseconds since 1970.
func (c *Config) timeRange(now time.Time) (oldest, newest int64) {
	oldest = c.Oldest.UnixMicro()
	if c.Oldest.IsZero() || c.OldestAge > 0 {
		oldest = max(oldest, now.Add(-c.OldestAge).UnixMicro())
	}
	return oldest, now.Add(c.NewestAhead).UnixMicro()
}
