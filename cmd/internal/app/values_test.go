package app

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSpan(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"0": 0, "30s": 30 * time.Second, "1h30m": 90 * time.Minute,
		"90d": 90 * day, "2w": 14 * day, "1y": 365 * day, "0.5d": 12 * time.Hour,
	} {
		var s Span
		require.NoError(t, s.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, time.Duration(s), text)
		var again Span
		require.NoError(t, again.UnmarshalText([]byte(s.String())))
		require.Equal(t, s, again)
	}
	for _, text := range []string{"", "d", "-1d", "-5s", "tomorrow", "1e300y", "NaNd", "1 d d"} {
		var s Span
		require.Error(t, s.UnmarshalText([]byte(text)), text)
	}
	require.Equal(t, "1y", Span(year).String())
}

func TestHorizon(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Horizon{
		"2000-01-01":           {At: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"2000-01-01T02:00:00Z": {At: time.Date(2000, 1, 1, 2, 0, 0, 0, time.UTC)},
		"1y":                   {Age: year},
	} {
		var h Horizon
		require.NoError(t, h.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, h)
		require.Equal(t, text, h.String())
	}
	for _, text := range []string{"", "0", "yesterday", "2000-13-01"} {
		var h Horizon
		require.Error(t, h.UnmarshalText([]byte(text)), text)
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Size{"1024": 1024, "16KiB": 16 << 10, "64 MiB": 64 << 20, "1GiB": 1 << 30, "7B": 7, "0": 0} {
		var s Size
		require.NoError(t, s.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, s)
	}
	for _, text := range []string{"", "KiB", "-1", "1.5MiB", "99999999999GiB", "10MB"} {
		var s Size
		require.Error(t, s.UnmarshalText([]byte(text)), text)
	}
	require.Equal(t, "64MiB", Size(64<<20).String())
}

func TestDefaultsAreValid(t *testing.T) {
	t.Parallel()
	c := DefaultConfig()
	require.NoError(t, c.Validate())
	require.Equal(t, ":8080", c.Listen)
	require.Equal(t, Horizon{Age: year}, c.Oldest)
	require.Equal(t, 16, c.Window)
	require.NotEmpty(t, c.DataDir)
	require.NotEmpty(t, c.Gateway)
}

func TestValidateNamesTheFlag(t *testing.T) {
	t.Parallel()
	for flag, spoil := range map[string]func(*Config){
		"--listen":            func(c *Config) { c.Listen = "8080" },
		"--tls-key":           func(c *Config) { c.TLSCert = "cert.pem" },
		"--tls-client-ca":     func(c *Config) { c.TLSClientCA = "ca.pem" },
		"--partition":         func(c *Config) { c.Partition = "decade" },
		"--writers":           func(c *Config) { c.Writers = 65 },
		"--max-waiting-bytes": func(c *Config) { c.MaxWaitingBytes = 1 },
		"--linger":            func(c *Config) { c.Linger = Span(time.Hour) },
		"--max-connections":   func(c *Config) { c.MaxConnections = -1 },
		"--newest":            func(c *Config) { c.Newest = 0 },
		"--heartbeat":         func(c *Config) { c.Heartbeat = Span(time.Second) },
		"--window":            func(c *Config) { c.Window = 2000 },
		"--max-frame":         func(c *Config) { c.MaxFrame = 1 << 20 },
		"--max-fragments":     func(c *Config) { c.MaxFragments = -1 },
		"--message-timeout":   func(c *Config) { c.MessageTimeout = -1 },
		"--max-control-rate":  func(c *Config) { c.MaxControlRate = -1 },
		"--spread":            func(c *Config) { c.Spread = Span(time.Millisecond) },
		"--grace":             func(c *Config) { c.Grace = Span(time.Hour) },
	} {
		c := DefaultConfig()
		spoil(&c)
		err := c.Validate()
		require.ErrorContains(t, err, flag+" must be")
	}
}

func TestRowsThatRetentionWouldDropAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		oldest    Horizon
		retention Span
		want      time.Duration
	}{
		{Horizon{Age: year}, 0, year},
		{Horizon{Age: year}, Span(30 * day), 30 * day},
		{Horizon{Age: day}, Span(30 * day), day},
		{Horizon{At: time.Unix(0, 0)}, 0, 0},
		{Horizon{At: time.Unix(0, 0)}, Span(30 * day), 30 * day},
	} {
		config := Config{Oldest: c.oldest, Retention: c.retention}
		require.Equal(t, c.want, config.oldestAge())
	}
}
