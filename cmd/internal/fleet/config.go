package fleet

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"mooring/wire"
)

// DefaultURL is where a server on this machine listens.
const DefaultURL = "ws://127.0.0.1:8080" + wire.StreamPath

// Credential is a device's name and its secret.
type Credential struct {
	Name  string
	Token string
}

// Faults is how much goes wrong on purpose.
type Faults string

// The levels of faults.
const (
	FaultsNone  Faults = "none"
	FaultsLight Faults = "light"
	FaultsHeavy Faults = "heavy"
)

// Config sets a run up. Tokens is needed.
type Config struct {
	// URL of the server's endpoint. Defaults to DefaultURL.
	URL string
	// Tokens are the devices, one each.
	Tokens []Credential
	// Rate is the number of rows all devices make per second; 0: as many as the
	// server acknowledges.
	Rate int
	// Rows is the number of rows of one frame. Defaults to 10.
	Rows int
	// Channels is the number of channels of a row, the origin included. Defaults
	// to 5, all of numbers; from 6 on there are a bool and a text.
	Channels int
	// For is how long devices measure. Defaults to 0: until ctx ends.
	For time.Duration
	// Settle is how long the run waits afterwards until all is acknowledged.
	// Defaults to 60 s.
	Settle time.Duration
	// Seed decides values, times and the choice of faults.
	Seed uint64
	// Faults is how much goes wrong on purpose. Defaults to FaultsNone.
	Faults Faults
	// Refusals has one row in so many carry something that the server must refuse.
	// Defaults to 0: as Faults says.
	Refusals uint64
	// Share is the number of devices that use one credential, against each other:
	// each connection replaces the one before. Defaults to 1; more needs
	// FaultsNone.
	Share int
	// Clock is what the devices' clocks say when they are switched on. If the
	// server does not take rows of that time, it must refuse each as too old or too
	// new. Defaults to none: their clocks are right.
	Clock time.Time
	// BackoffScale multiplies the protocol's waits before a reconnect, so that
	// faults don't leave a short run with devices that are away most of the
	// time. Defaults to 1 without faults and 0.01 with them.
	BackoffScale float64
	// Buffer is for how long a device keeps rows that are not acknowledged; while
	// its buffer is full, it makes no more. With Rate alone, and no more than
	// 1,000,000 rows a device. Defaults to 2 s.
	Buffer time.Duration
	// Ledger is the file that Verify needs. Defaults to none.
	Ledger string
	// TLS is used for wss. Defaults to the system's roots.
	TLS *tls.Config
	// OnProgress is told how the run goes, every ProgressEvery (defaults to 1 s)
	// and at its end, from one goroutine.
	OnProgress    func(Progress)
	ProgressEvery time.Duration
	// Logger takes what people should know. Defaults to none.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.URL == "" {
		c.URL = DefaultURL
	}
	if c.Rows == 0 {
		c.Rows = 10
	}
	if c.Channels == 0 {
		c.Channels = 5
	}
	if c.Settle == 0 {
		c.Settle = time.Minute
	}
	if c.Buffer == 0 {
		c.Buffer = 2 * time.Second
	}
	if c.Faults == "" {
		c.Faults = FaultsNone
	}
	if c.Refusals == 0 {
		c.Refusals = faultRates[c.Faults].refusals
	}
	if c.Share == 0 {
		c.Share = 1
	}
	if c.BackoffScale == 0 {
		c.BackoffScale = 1
		if c.Faults != FaultsNone {
			c.BackoffScale = 0.01
		}
	}
	if c.OnProgress == nil {
		c.OnProgress = func(Progress) {}
	}
	if c.ProgressEvery == 0 {
		c.ProgressEvery = time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// ConfigError says which field of Config can't be.
type ConfigError struct {
	Field string // as Config names it
	Fault string
}

func (e *ConfigError) Error() string { return "fleet: " + e.Field + ": " + e.Fault }

func (c *Config) validate() error {
	switch {
	case len(c.Tokens) == 0:
		return &ConfigError{"Tokens", "no devices"}
	case c.Rate < 0:
		return &ConfigError{"Rate", "negative"}
	case c.Rows < 1 || c.Rows > wire.DefaultMaxRows:
		return &ConfigError{"Rows", fmt.Sprintf("not within 1 to %d", wire.DefaultMaxRows)}
	case c.Channels < 1 || c.Channels > wire.DefaultMaxChannels:
		return &ConfigError{"Channels", fmt.Sprintf("not within 1 to %d", wire.DefaultMaxChannels)}
	case c.For < 0:
		return &ConfigError{"For", "negative"}
	case c.Settle < 0:
		return &ConfigError{"Settle", "negative"}
	case c.Buffer < 0:
		return &ConfigError{"Buffer", "negative"}
	case c.Share < 1 || c.Share > maxBoots:
		return &ConfigError{"Share", fmt.Sprintf("not within 1 to %d", maxBoots)}
	case c.Share > 1 && c.Faults != FaultsNone:
		return &ConfigError{"Share", "devices that share a credential can't have faults as well"}
	case c.BackoffScale < 0:
		return &ConfigError{"BackoffScale", "negative"}
	}
	if _, known := faultRates[c.Faults]; !known {
		return &ConfigError{"Faults", fmt.Sprintf("%q is none of none, light, heavy", c.Faults)}
	}
	return nil
}

// rates say how often things go wrong at a level of faults.
type rates struct {
	refusals  uint64        // one row in so many carries something to be refused
	reboot    time.Duration // mean time between reboots of a device
	link      time.Duration // mean age at which a connection gets its fault
	faulty    float64       // share of connections that get one
	intrusion time.Duration // mean time between misdeeds over raw sockets, of all devices
	coarse    float64       // share of devices with a clock of whole seconds
	jumps     int           // leaps of a device's clock, at most
}

var faultRates = map[Faults]rates{
	FaultsNone: {},
	FaultsLight: {
		refusals: 2000, reboot: 60 * time.Second, link: 15 * time.Second, faulty: 0.3,
		intrusion: 2 * time.Second, coarse: 0.1, jumps: 1,
	},
	FaultsHeavy: {
		refusals: 100, reboot: 15 * time.Second, link: 3 * time.Second, faulty: 0.6,
		intrusion: 100 * time.Millisecond, coarse: 0.3, jumps: 4,
	},
}
