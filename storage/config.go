package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// PartitionWidth is how much time one partition of samples covers.
type PartitionWidth string

// The widths. All begin at a full one in UTC; weeks begin on Monday.
const (
	PartitionHour  PartitionWidth = "hour"
	PartitionDay   PartitionWidth = "day"
	PartitionWeek  PartitionWidth = "week"
	PartitionMonth PartitionWidth = "month"
)

// Config is what a Store needs to know. Only URL is required.
type Config struct {
	// URL of a database that migrations.Up has been run on. Several hosts may be
	// named; with target_session_attrs=read-write a fail-over is followed.
	URL string

	// Writers is the number of connections that write, and so of the values that
	// Write's writer may take, from 0. Defaults to 2.
	Writers int

	// Partition is how much time a partition covers. It may change between
	// starts. Every partition costs each query planning time: stay under about
	// 100 in Retention. Defaults to PartitionDay.
	Partition PartitionWidth

	// PartitionsAhead is how many partitions are kept ready beyond the current
	// one. Defaults to 2.
	PartitionsAhead int

	// Retention is how long samples are kept; partitions that are older as a
	// whole are dropped. Defaults to 0: for ever.
	Retention time.Duration

	// RejectRetention is how long refused rows are kept in mooring.rejects.
	// Defaults to 30 days.
	RejectRetention time.Duration

	// MaxLayouts is how many different layouts are accepted from all devices
	// together. Defaults to 10,000.
	MaxLayouts int

	// MaxLayoutsPerDevice is how many different layouts one device may ever
	// have declared. Defaults to 64.
	MaxLayoutsPerDevice int

	// LayoutsWaiting is how many callers of ResolveLayout are in line for the
	// database; more wait for a place in it. Defaults to 16,384.
	LayoutsWaiting int

	// RejectsPerMinute is how many refusals of one device are recorded in a
	// minute; the rest is counted. Defaults to 100.
	RejectsPerMinute int

	// AttemptTimeout is how long one attempt at a batch may take before the
	// connection is given up and the batch tried again on a new one. It bounds
	// how long a Postgres that hangs, rather than fails, goes unnoticed.
	// Defaults to 60 s.
	AttemptTimeout time.Duration

	// OnGoneBack is told, once, that the database has gone back and nothing is
	// stored any more: an error that matches ErrGoneBack. It must not block.
	// Defaults to nobody.
	OnGoneBack func(error)

	// Logger gets what an operator should know. Defaults to discarding it.
	Logger *slog.Logger

	// Registerer gets the metrics, all named mooring_storage_…. Defaults to none.
	Registerer prometheus.Registerer
}

func (c *Config) setDefaults() {
	if c.Writers == 0 {
		c.Writers = 2
	}
	if c.Partition == "" {
		c.Partition = PartitionDay
	}
	if c.PartitionsAhead == 0 {
		c.PartitionsAhead = 2
	}
	if c.RejectRetention == 0 {
		c.RejectRetention = 30 * 24 * time.Hour
	}
	if c.MaxLayouts == 0 {
		c.MaxLayouts = 10_000
	}
	if c.MaxLayoutsPerDevice == 0 {
		c.MaxLayoutsPerDevice = 64
	}
	if c.LayoutsWaiting == 0 {
		c.LayoutsWaiting = 16_384
	}
	if c.RejectsPerMinute == 0 {
		c.RejectsPerMinute = 100
	}
	if c.AttemptTimeout == 0 {
		c.AttemptTimeout = time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

func (c *Config) validate() error {
	switch {
	case c.URL == "":
		return errors.New("storage: URL is empty")
	case c.Writers < 1 || c.Writers > 64:
		return fmt.Errorf("storage: Writers is %d, must be 1 to 64", c.Writers)
	case !c.Partition.valid():
		return fmt.Errorf("storage: Partition is %q, must be hour, day, week or month", c.Partition)
	case c.PartitionsAhead < 1 || c.PartitionsAhead > 100:
		return fmt.Errorf("storage: PartitionsAhead is %d, must be 1 to 100", c.PartitionsAhead)
	case c.Retention < 0:
		return fmt.Errorf("storage: Retention is %s, must not be negative", c.Retention)
	case c.RejectRetention < 0:
		return fmt.Errorf("storage: RejectRetention is %s, must not be negative", c.RejectRetention)
	case c.MaxLayouts < 1, c.MaxLayoutsPerDevice < 1, c.LayoutsWaiting < 1, c.RejectsPerMinute < 1:
		return errors.New("storage: MaxLayouts, MaxLayoutsPerDevice, LayoutsWaiting and RejectsPerMinute must be positive")
	case c.AttemptTimeout < time.Second:
		return fmt.Errorf("storage: AttemptTimeout is %s, must be at least 1s", c.AttemptTimeout)
	}
	return nil
}
