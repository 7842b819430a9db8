package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"mooring/wire"
)

// WhenFull says what Append does when the buffer has no room.
type WhenFull uint8

const (
	// RefuseNewest makes Append fail with ErrFull.
	RefuseNewest WhenFull = iota
	// DropOldest gives up the oldest rows, acknowledged or not, and counts them
	// (Stats.RowsDropped). The server sees a gap in the sequence numbers.
	DropOldest
)

// Config sets a client up. URL is needed, and Token or a certificate in TLS.
type Config struct {
	// URL of the server's endpoint, ws or wss, such as
	// "wss://example.org/v1/stream". Credentials never belong into it.
	URL string
	// Token is the device's secret, sent as "Authorization: Bearer". Empty: the
	// certificate in TLS says who the device is.
	Token string
	// Name is the device's name. If it is set, name and token are sent as
	// "Authorization: Basic", and the server sees to it that they belong
	// together. Defaults to none.
	Name string

	// BootID tells this boot's sequence numbers from those of others. Defaults
	// to 32 random bits.
	BootID uint32
	// Model and Firmware tell people what the device is. Default to nothing.
	Model, Firmware string

	// BufferRows bounds the rows that wait for their acknowledgement. Defaults
	// to 100,000.
	BufferRows int
	// BufferBytes bounds their size in memory, in bytes; a row of five numbers
	// takes 59. Defaults to 8 MiB.
	BufferBytes int
	// WhenFull decides what happens beyond. Defaults to RefuseNewest.
	WhenFull WhenFull

	// FrameRows is the largest number of rows in one frame, 1 to 4,096. Rows
	// that wait are sent together; none waits for company unless Linger is set.
	// Defaults to 256. SetFrameRows changes it.
	FrameRows int
	// Linger is how long a row may wait until FrameRows rows are there.
	// Defaults to 0: it is sent at once.
	Linger time.Duration

	// Heartbeat is the silence, in whole seconds from 5 to 900, after which the
	// server shall ping; twice as much means the link is dead. Defaults to what
	// the server likes.
	Heartbeat time.Duration
	// MaxReceive is the largest message taken from the server, in bytes, at
	// least 1,024. Defaults to 16,384.
	MaxReceive int
	// HandshakeTimeout bounds dialing, TLS and the upgrade. Defaults to 30 s.
	HandshakeTimeout time.Duration

	// Dial opens the network connection, below TLS. Defaults to net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// TLS is used for wss. Defaults to the system's roots.
	TLS *tls.Config
	// Backoff decides how long to wait before the next attempt to connect.
	// Defaults to Retry.Wait, the protocol's own rule.
	Backoff func(retry Retry) time.Duration

	// OnAck is told of every acknowledgement that settles rows.
	OnAck func(ack Ack)
	// OnReject is told of rows and values that the server refused. After a lost
	// connection the same refusal may be reported again.
	OnReject func(reject wire.Reject)
	// OnCommand carries out a command and answers it; ctx ends with the
	// command's time to live. Commands run one at a time, each at most once
	// unless its flags allow repetition. Defaults to answering ResultUnknown.
	OnCommand func(ctx context.Context, command wire.Command) wire.Result
	// OnEvent is told what happens to the connection.
	OnEvent func(event Event)

	// Logger takes what people should know. Defaults to none.
	Logger *slog.Logger
}

// Defaults of Config.
const (
	defaultBufferRows  = 100_000
	defaultBufferBytes = 8 << 20
	defaultFrameRows   = 256
	defaultMaxReceive  = 16 << 10
	defaultHandshake   = 30 * time.Second
)

func (c Config) withDefaults() Config {
	if c.BufferRows == 0 {
		c.BufferRows = defaultBufferRows
	}
	if c.BufferBytes == 0 {
		c.BufferBytes = defaultBufferBytes
	}
	if c.FrameRows == 0 {
		c.FrameRows = defaultFrameRows
	}
	if c.MaxReceive == 0 {
		c.MaxReceive = defaultMaxReceive
	}
	if c.HandshakeTimeout == 0 {
		c.HandshakeTimeout = defaultHandshake
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	if c.Backoff == nil {
		c.Backoff = func(retry Retry) time.Duration { return retry.Wait() }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// validate names the field at fault.
func (c *Config) validate() (*url.URL, error) {
	address, err := url.Parse(c.URL)
	if err != nil {
		return nil, fmt.Errorf("client: URL: %w", err)
	}
	switch {
	case address.Scheme != "ws" && address.Scheme != "wss":
		return nil, fmt.Errorf("client: URL: the scheme is %q, not ws or wss", address.Scheme)
	case address.Host == "":
		return nil, errors.New("client: URL: no host")
	case address.User != nil || address.RawQuery != "":
		return nil, errors.New("client: URL: credentials and queries don't belong into it")
	case c.BufferRows < 1:
		return nil, errors.New("client: BufferRows: less than 1")
	case c.BufferBytes < 1:
		return nil, errors.New("client: BufferBytes: less than 1")
	case c.FrameRows < 1 || c.FrameRows > wire.DefaultMaxRows:
		return nil, fmt.Errorf("client: FrameRows: not within 1 to %d", wire.DefaultMaxRows)
	case c.Heartbeat != 0 && (c.Heartbeat < 5*time.Second || c.Heartbeat > 900*time.Second || c.Heartbeat%time.Second != 0):
		return nil, errors.New("client: Heartbeat: not whole seconds within 5 s to 900 s")
	case c.MaxReceive < wire.DefaultReceive || c.MaxReceive > wire.MaxFrameBytes:
		return nil, fmt.Errorf("client: MaxReceive: not within %d to %d", wire.DefaultReceive, wire.MaxFrameBytes)
	case c.HandshakeTimeout < 0 || c.Linger < 0:
		return nil, errors.New("client: HandshakeTimeout, Linger: negative")
	case len(c.Model) > wire.MaxName || len(c.Firmware) > wire.MaxName:
		return nil, fmt.Errorf("client: Model, Firmware: longer than %d bytes", wire.MaxName)
	case !isText(c.Model) || !isText(c.Firmware):
		return nil, errors.New("client: Model, Firmware: not UTF-8, or with U+0000")
	}
	return address, nil
}

// isText says whether a server takes it in HELLO (PROTOCOL §4.1).
func isText(text string) bool { return utf8.ValidString(text) && !strings.Contains(text, "\x00") }
