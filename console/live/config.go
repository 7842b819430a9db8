package live

import (
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mooring/devices"
)

// Config is what a Hub works with, and its limits.
type Config struct {
	Devices   Directory // required
	Readings  Readings  // required
	Committed Committed // required
	// Gateway is this server's name, as in mooring.sessions: rows of devices that
	// are connected to others are read from the database.
	Gateway string
	// Figures are this server's. Defaults to none.
	Figures func() Figures
	// Command encodes a command as the API shows it. Required.
	Command func(devices.Command) ([]byte, error)

	// MaxViewers is the number of viewers at a time; more get HTTP 503. Defaults
	// to 1,000.
	MaxViewers int
	// MaxOfUser is the number of viewers at a time that are one user; more get HTTP
	// 429. Defaults to 100.
	MaxOfUser int
	// MaxDevices is the number of devices that one viewer is told of. Defaults to
	// 10,000.
	MaxDevices int
	// MaxValues is the number of channels of all watched devices together, about
	// 350 bytes each, however many viewers there are. Defaults to 500,000.
	MaxValues int
	// Heartbeat is the silence after which a viewer is sent a sign of life, and
	// twice that the silence after which one that must answer is given up.
	// Defaults to 30 s.
	Heartbeat time.Duration
	// Timeout is how long a viewer may not take what it is sent before its
	// connection is closed. Defaults to 30 s.
	Timeout time.Duration
	// Resume is for how long after the last viewer with the same filter left one
	// can resume. Defaults to 1 min.
	Resume time.Duration

	// Logger defaults to one that discards.
	Logger *slog.Logger
	// Registerer gets the metrics, mooring_live_…. Defaults to none.
	Registerer prometheus.Registerer
}

// What is not a setting, because a viewer sees it in the protocol.
const (
	minEvery     = 100 * time.Millisecond
	maxEvery     = time.Minute
	defaultEvery = time.Second

	maxNames     = 100      // devices in a filter
	maxChannels  = 64       // channels in a filter
	maxLabels    = 20       // labels in a filter
	maxName      = 128      // bytes of each of these
	maxSubscribe = 16 << 10 // bytes of a subscribe message
	messageBytes = 4 << 10  // a message that has grown past it is ended
	writeBytes   = 48 << 10 // messages that have grown past it together are written
	ringEvents   = 1024     // commands and refusals that are kept
	ringBytes    = 1 << 20
	snapshotPart = 500 // devices whose values are loaded at a time
)

func (c Config) withDefaults() (Config, error) {
	if c.Devices == nil || c.Readings == nil || c.Committed == nil || c.Command == nil {
		return c, errors.New("live: Devices, Readings, Committed and Command are needed")
	}
	for _, field := range []struct {
		value    *int
		standard int
	}{{&c.MaxViewers, 1000}, {&c.MaxOfUser, 100}, {&c.MaxDevices, 10_000}, {&c.MaxValues, 500_000}} {
		if *field.value == 0 {
			*field.value = field.standard
		}
	}
	for _, field := range []struct {
		value    *time.Duration
		standard time.Duration
	}{{&c.Heartbeat, 30 * time.Second}, {&c.Timeout, 30 * time.Second}, {&c.Resume, time.Minute}} {
		if *field.value == 0 {
			*field.value = field.standard
		}
	}
	if c.Figures == nil {
		c.Figures = func() Figures { return Figures{} }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
