package client

import (
	"math/rand/v2"
	"time"

	"mooring/wire"
)

// Limits of the waits in the protocol's table of close codes.
const (
	maxRetryWait  = 600 * time.Second
	laterWait     = 60 * time.Second
	faultWait     = 10 * time.Second
	terminalWait  = 900 * time.Second
	maxTerminal   = 6 * time.Hour
	defaultSpread = 5 * time.Second // until the first WELCOME says better
)

// Retry is what is known when a connection, or an attempt to get one, ended.
type Retry struct {
	Class wire.CloseClass
	// Failures is the number of connections and attempts in a row that ended
	// without progress, this one included. Progress is an acknowledgement that
	// settled rows, or a connection that lived for a minute.
	Failures int
	// Spread is the server's, from the last WELCOME or PARAMS.
	Spread time.Duration
	// Min and Max are the slot that a GOAWAY gave; both 0: none did. One without
	// width counts as a second wide (PROTOCOL §9.3).
	Min, Max time.Duration
	// After is the Retry-After of an HTTP answer; 0: none.
	After time.Duration
}

// Wait is the protocol's rule: how long to stay away, jittered. A slot given by
// a GOAWAY replaces the wait of class R after a connection that got somewhere;
// otherwise the longer of both holds.
func (r Retry) Wait() time.Duration {
	wait := r.classWait()
	if r.Min > 0 || r.Max > 0 {
		width := r.Max - r.Min
		if width <= 0 {
			width = time.Second
		}
		slot := r.Min + jitter(width)
		if r.Class == wire.ClassRetry && r.Failures == 0 {
			wait = slot
		} else {
			wait = max(wait, slot)
		}
	}
	if r.After > 0 {
		wait = max(wait, r.After+jitter(r.Spread))
	}
	return wait
}

func (r Retry) classWait() time.Duration {
	random := jitter(doubled(r.Spread, r.Failures, maxRetryWait))
	switch r.Class {
	case wire.ClassRetry:
		return random
	case wire.ClassLater:
		return laterWait + random
	case wire.ClassFault:
		return faultWait + random
	case wire.ClassTerminal:
		return doubled(terminalWait, max(r.Failures-1, 0), maxTerminal) + random
	default:
		return laterWait + random
	}
}

// doubled is base·2^times, at most limit.
func doubled(base time.Duration, times int, limit time.Duration) time.Duration {
	for range times {
		if base >= limit {
			break
		}
		base *= 2
	}
	return min(base, limit)
}

func jitter(limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	return rand.N(limit) //nolint:gosec // spreading load needs no secrecy
}
