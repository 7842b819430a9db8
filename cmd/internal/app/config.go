package app

import (
	"encoding"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"time"
)

// Location says where the database is. Commands that only talk to the database
// take it alone.
type Location struct {
	// DatabaseURL is the connection URL of a PostgreSQL 15 or later. Defaults to
	// none: a private one is run in DataDir.
	DatabaseURL string `name:"database-url" env:"MOORING_DATABASE_URL" placeholder:"URL" group:"Database" help:"PostgreSQL to use, as postgres://user:password@host/database. PGPASSWORD and the other PG variables count. Without it, a private PostgreSQL runs in the data directory."`
	// DatabaseURLFile is a file that holds the URL, so that its password is
	// neither in a list of processes nor in an environment. Defaults to none.
	DatabaseURLFile string `name:"database-url-file" env:"MOORING_DATABASE_URL_FILE" placeholder:"FILE" group:"Database" help:"File that holds the URL, instead of --database-url: what is typed is in the list of processes for everybody on the machine."`
	// DataDir is where the private PostgreSQL lives. Defaults to
	// /var/lib/mooring for root and to the user's own data directory otherwise.
	DataDir string `name:"data-dir" env:"MOORING_DATA_DIR" placeholder:"DIR" group:"Database" help:"Where the private PostgreSQL lives (default: ${data_dir})."`
}

// Config is all that a server can be told. Every field has a flag, and an
// environment variable and a key of the configuration file of the same name; a
// field that is not set holds its default.
type Config struct {
	Location

	// Partition is how much time one partition of the samples covers: hour, day,
	// week or month. Defaults to day.
	Partition string `env:"MOORING_PARTITION" enum:"hour,day,week,month" default:"day" group:"Database" help:"Time that one partition of the samples covers: hour, day, week or month."`
	// Retention is how long samples are kept. Defaults to 0: for ever.
	Retention Span `env:"MOORING_RETENTION" default:"0" group:"Database" help:"How long samples are kept, as 90d or 2y; 0: for ever. Older rows are refused."`
	// Writers is the number of connections that write samples. Defaults to 2.
	Writers int `env:"MOORING_WRITERS" default:"2" group:"Database" help:"Connections that write samples."`
	// MaxWaitingBytes bounds the rows that were received and are not committed
	// yet; past it, devices are made to wait. Defaults to 64 MiB.
	MaxWaitingBytes Size `env:"MOORING_MAX_WAITING_BYTES" default:"64MiB" group:"Database" help:"Received rows that may wait for the database; past it, devices wait."`
	// Linger is how long a writer waits for more rows before it writes. Defaults
	// to 0.
	Linger Span `env:"MOORING_LINGER" default:"0" group:"Database" help:"How long a writer waits for more rows: fewer commits, later acks."`

	// Listen is the TCP address served. Defaults to :8080.
	Listen string `env:"MOORING_LISTEN" default:":8080" group:"Network" help:"TCP address to listen on."`
	// TLSCert is a file with the certificate chain; with TLSKey it turns TLS on.
	// Defaults to none.
	TLSCert string `name:"tls-cert" env:"MOORING_TLS_CERT" placeholder:"FILE" group:"Network" help:"Certificate chain (PEM); turns TLS on."`
	// TLSKey is a file with the certificate's key. Defaults to none.
	TLSKey string `name:"tls-key" env:"MOORING_TLS_KEY" placeholder:"FILE" group:"Network" help:"Key of the certificate (PEM)."`
	// TLSClientCA is a file with the authorities whose client certificates are
	// taken as credentials. Defaults to none.
	TLSClientCA string `name:"tls-client-ca" env:"MOORING_TLS_CLIENT_CA" placeholder:"FILE" group:"Network" help:"Authorities (PEM) whose client certificates, which name the device, are credentials."`
	// MaxConnections is the number of devices connected at a time. Defaults to
	// 100,000.
	MaxConnections int `env:"MOORING_MAX_CONNECTIONS" default:"100000" group:"Network" help:"Devices connected at a time; further ones get HTTP 503."`
	// Gateway is this server's name in mooring.sessions; two servers on one
	// database need different ones. Defaults to the host's name.
	Gateway string `env:"MOORING_GATEWAY" placeholder:"NAME" group:"Network" help:"Name of this server in the database (default: the host's name)."`

	Doors
	Live

	// Oldest is the oldest time that a row may have. Defaults to an age of 1
	// year.
	Oldest Horizon `env:"MOORING_OLDEST" default:"1y" group:"Devices" help:"Oldest time a row may have: an age (90d, 1y) or a date (2000-01-01)."`
	// Newest is how far ahead of the server's clock a row may be. Defaults to 10
	// minutes.
	Newest Span `env:"MOORING_NEWEST" default:"10m" group:"Devices" help:"How far ahead of the server's clock a row may be."`
	// Heartbeat is the silence after which a device is pinged. Defaults to 30 s.
	Heartbeat Span `env:"MOORING_HEARTBEAT" default:"30s" group:"Devices" help:"Silence after which a device is pinged, 5s to 15m."`
	// Window is the number of DATA frames that a device may have
	// unacknowledged. Defaults to 16.
	Window int `env:"MOORING_WINDOW" default:"16" group:"Devices" help:"DATA frames a device may have unacknowledged."`
	// MaxFrame is the largest message taken from a device. Defaults to 16 KiB.
	MaxFrame Size `env:"MOORING_MAX_FRAME" default:"16KiB" group:"Devices" help:"Largest message taken from a device, up to 64KiB."`
	// MaxFragments is the number of WebSocket fragments a message may come in.
	// Defaults to 1,024.
	MaxFragments int `env:"MOORING_MAX_FRAGMENTS" default:"1024" group:"Devices" help:"WebSocket fragments a message may come in, empty ones included."`
	// MessageTimeout is how long a message may take from its first byte to its
	// last. Defaults to 2 min.
	MessageTimeout Span `env:"MOORING_MESSAGE_TIMEOUT" default:"2m" group:"Devices" help:"How long a message may take from its first byte to its last."`
	// MaxControlRate is the number of frames other than DATA that a device may
	// send a second for long. Defaults to 20.
	MaxControlRate int `env:"MOORING_MAX_CONTROL_RATE" default:"20" group:"Devices" help:"Frames other than DATA, WebSocket Pings and Pongs included, that a device may send a second; those of 20s may come at once."`
	// Spread is the time over which devices spread their reconnects. Defaults to
	// 30 s.
	Spread Span `env:"MOORING_SPREAD" default:"30s" group:"Devices" help:"Time over which devices spread their reconnects."`
	// Grace is how long a stopping server goes on reading and acknowledging.
	// Defaults to 5 s.
	Grace Span `env:"MOORING_GRACE" default:"5s" group:"Devices" help:"How long a stopping server goes on reading and acknowledging."`

	// StopTimeout is how long after Grace a stopping server may take to write what
	// it has read. Defaults to 20 s: with Grace it stays below the 30 s after which
	// Kubernetes and our compose file kill.
	StopTimeout Span `env:"MOORING_STOP_TIMEOUT" default:"20s" group:"Devices" help:"How long after --grace a stopping server may take to write what it has read; what is not written then, devices send again."`

	// Throwaway makes the private PostgreSQL one that dies with this process and
	// leaves nothing behind; without DataDir it lives in a temporary directory.
	// For demo and tests.
	Throwaway bool `kong:"-"`
	// Logger gets what an operator should know. Defaults to discarding it.
	Logger *slog.Logger `kong:"-"`
}

// DefaultConfig is what a server does that was told nothing.
func DefaultConfig() Config {
	var c Config
	c.setDefaults()
	return c
}

// setDefaults fills the fields that hold their zero value from the tags that
// the command line reads too, so that there is one source of truth.
func (c *Config) setDefaults() {
	setFields(reflect.ValueOf(c).Elem())
	if c.DataDir == "" && !c.Throwaway {
		c.DataDir = DefaultDataDir()
	}
	if c.Gateway == "" {
		c.Gateway = hostName()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// setFields fills the fields of a struct and of those embedded in it.
func setFields(structure reflect.Value) {
	for i := range structure.NumField() {
		field, about := structure.Field(i), structure.Type().Field(i)
		if about.Anonymous {
			setFields(field)
			continue
		}
		text, ok := about.Tag.Lookup("default")
		if !ok || !field.IsZero() {
			continue
		}
		if err := setText(field, text); err != nil {
			panic(fmt.Sprintf("app: default of Config.%s: %v", about.Name, err))
		}
	}
}

func setText(field reflect.Value, text string) error {
	if value, ok := reflect.TypeAssert[encoding.TextUnmarshaler](field.Addr()); ok {
		return value.UnmarshalText([]byte(text))
	}
	switch field.Kind() {
	case reflect.String:
		field.SetString(text)
	case reflect.Int:
		number, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		field.SetInt(int64(number))
	default:
		return fmt.Errorf("no default can be set for a %s", field.Kind())
	}
	return nil
}

// minBatchBytes is the least room of one batch: below it, frames of the largest
// size would fill a batch with a handful of rows.
const minBatchBytes = 64 << 10

// Validate names every flag whose value can't be.
func (c *Config) Validate() error {
	var faults []error
	need := func(ok bool, flag, want string, is any) {
		if !ok {
			faults = append(faults, fmt.Errorf("--%s must be %s, not %v", flag, want, is))
		}
	}
	_, _, err := net.SplitHostPort(c.Listen)
	need(err == nil, "listen", "an address like :8080 or 127.0.0.1:8080", c.Listen)
	need((c.TLSCert == "") == (c.TLSKey == ""), "tls-key", "given together with --tls-cert", "one of both")
	need(c.TLSClientCA != "" || c.TLSClientAuth == "optional", "tls-client-auth", "given together with --tls-client-ca", "alone")
	need(c.TLSClientCA == "" || c.TLSCert != "", "tls-client-ca", "given together with --tls-cert", "alone")
	need(slices.Contains([]string{"hour", "day", "week", "month"}, c.Partition), "partition", "hour, day, week or month", c.Partition)
	heartbeat := time.Duration(c.Heartbeat)
	need(c.Retention >= 0, "retention", "0 or an age like 90d", c.Retention)
	need(c.Writers >= 1 && c.Writers <= 64, "writers", "1 to 64", c.Writers)
	least := Size(2 * minBatchBytes * max(1, c.Writers))
	need(c.MaxWaitingBytes >= least, "max-waiting-bytes", fmt.Sprintf("at least %v with %d writers", least, c.Writers), c.MaxWaitingBytes)
	need(c.MaxWaitingBytes <= Size(2*max(1, c.Writers))<<30, "max-waiting-bytes", "at most 2GiB a writer", c.MaxWaitingBytes)
	need(c.Linger >= 0 && c.Linger <= Span(time.Minute), "linger", "0 to 1m", c.Linger)
	need(c.MaxConnections >= 1, "max-connections", "at least 1", c.MaxConnections)
	need(c.Newest > 0, "newest", "a time like 10m", c.Newest)
	need(heartbeat >= 5*time.Second && heartbeat <= 15*time.Minute && heartbeat%time.Second == 0,
		"heartbeat", "whole seconds from 5s to 15m", c.Heartbeat)
	need(c.Window >= 1 && c.Window <= 1024, "window", "1 to 1024", c.Window)
	need(c.MaxFrame >= 256 && c.MaxFrame <= 64<<10, "max-frame", "256B to 64KiB", c.MaxFrame)
	need(c.MaxFragments >= 1 && c.MaxFragments <= 1<<20, "max-fragments", "1 to 1048576", c.MaxFragments)
	need(c.MessageTimeout >= Span(time.Second) && c.MessageTimeout <= Span(day), "message-timeout", "1s to 1d", c.MessageTimeout)
	need(c.MaxControlRate >= 1 && c.MaxControlRate <= 1_000_000, "max-control-rate", "1 to 1000000", c.MaxControlRate)
	need(c.Spread >= Span(time.Second) && c.Spread <= Span(24*time.Hour) && time.Duration(c.Spread)%time.Second == 0,
		"spread", "whole seconds from 1s to 1d", c.Spread)
	need(c.Grace > 0 && c.Grace <= Span(10*time.Minute), "grace", "up to 10m", c.Grace)
	need(c.StopTimeout > 0 && c.StopTimeout <= Span(time.Hour), "stop-timeout", "up to 1h", c.StopTimeout)
	return errors.Join(errors.Join(faults...), c.validateDoors(), c.validateLive())
}

// DefaultDataDir is where the private PostgreSQL lives unless told otherwise.
// As root that is a folder which the unprivileged user that runs PostgreSQL can
// enter, which root's home is not.
func DefaultDataDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/mooring"
	}
	if directory := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(directory) {
		return filepath.Join(directory, "mooring")
	}
	return userDataDir()
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "mooring"
	}
	return name
}

// oldestAge is how old a row may be, 0: any age. What retention would drop at
// once is refused, so that nobody is told that such a row is kept.
func (c *Config) oldestAge() time.Duration {
	if c.Retention == 0 {
		return c.Oldest.Age
	}
	if c.Oldest.Age == 0 {
		return time.Duration(c.Retention)
	}
	return min(c.Oldest.Age, time.Duration(c.Retention))
}
