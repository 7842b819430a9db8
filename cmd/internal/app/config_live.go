package app

import (
	"errors"
	"fmt"
	"time"
)

// Live are the settings of who may look on, and how.
type Live struct {
	// LiveViewers is the number of viewers at a time. Defaults to 1,000.
	LiveViewers int `env:"MOORING_LIVE_VIEWERS" default:"1000" group:"Live" help:"People and programs that may look on at a time (/v1/live); further ones get HTTP 503."`
	// LiveUserViewers is the number of viewers at a time that are one user. Defaults
	// to 100.
	LiveUserViewers int `env:"MOORING_LIVE_USER_VIEWERS" default:"100" group:"Live" help:"How often one user may look on at a time; more get HTTP 429."`
	// LiveDevices is the number of devices that one viewer is told of. Defaults to
	// 10,000.
	LiveDevices int `env:"MOORING_LIVE_DEVICES" default:"10000" group:"Live" help:"Devices that one viewer is told of: of more that fit its filter, the first by name."`
	// LiveValues is the number of channels of all watched devices. Defaults to
	// 500,000.
	LiveValues int `env:"MOORING_LIVE_VALUES" default:"500000" group:"Live" help:"Channels of all watched devices together that are kept in memory, some 350 bytes each however many look on; of more, viewers are told that they are missing."`
	// LiveHeartbeat is the silence after which a viewer is sent a sign of life.
	// Defaults to 30 s.
	LiveHeartbeat Span `env:"MOORING_LIVE_HEARTBEAT" default:"30s" group:"Live" help:"How often a viewer is sent a sign of life, 1s to 10m; a WebSocket that does not answer twice is closed."`
	// LiveTimeout is how long a viewer may not take what it is sent. Defaults to
	// 30 s.
	LiveTimeout Span `env:"MOORING_LIVE_TIMEOUT" default:"30s" group:"Live" help:"How long a viewer may not take what it is sent before its connection is closed, 1s to 10m."`
	// LiveResume is for how long a viewer that was cut off can go on where it was.
	// Defaults to 1 min.
	LiveResume Span `env:"MOORING_LIVE_RESUME" default:"1m" group:"Live" help:"For how long after the last viewer with the same filter left one can go on where it was, up to 1h; devices stay watched so long."`
}

func (l *Live) validateLive() error {
	var faults []error
	need := func(ok bool, flag, want string, is any) {
		if !ok {
			faults = append(faults, fmt.Errorf("--%s must be %s, not %v", flag, want, is))
		}
	}
	need(l.LiveViewers >= 1 && l.LiveViewers <= 1_000_000, "live-viewers", "1 to 1000000", l.LiveViewers)
	need(l.LiveUserViewers >= 1 && l.LiveUserViewers <= 1_000_000, "live-user-viewers", "1 to 1000000", l.LiveUserViewers)
	need(l.LiveDevices >= 1 && l.LiveDevices <= 1_000_000, "live-devices", "1 to 1000000", l.LiveDevices)
	need(l.LiveValues >= 1 && l.LiveValues <= 100_000_000, "live-values", "1 to 100000000", l.LiveValues)
	need(l.LiveHeartbeat >= Span(time.Second) && l.LiveHeartbeat <= Span(10*time.Minute), "live-heartbeat", "1s to 10m", l.LiveHeartbeat)
	need(l.LiveTimeout >= Span(time.Second) && l.LiveTimeout <= Span(10*time.Minute), "live-timeout", "1s to 10m", l.LiveTimeout)
	need(l.LiveResume >= Span(time.Second) && l.LiveResume <= Span(time.Hour), "live-resume", "1s to 1h", l.LiveResume)
	return errors.Join(faults...)
}
