package fleet

import (
	"context"
	"time"

	"mooring/cmd/internal/reply"
	"mooring/wire"
)

// restartAfter leaves a device's answer time to arrive before it reboots.
const restartAfter = 500 * time.Millisecond

// onCommand carries out what simulated devices understand:
//
//	identify                         says who it is and what it is doing
//	reboot                           starts again, with a new boot id
//	set_interval {"ms": 100}         makes a row so often; by starting again
//
// The last two need a run with faults, whose boots the ledger keeps apart.
func (b *liveBoot) onCommand(_ context.Context, command wire.Command) wire.Result {
	switch command.Name {
	case "identify":
		return reply.With(wire.ResultDone, map[string]any{
			"device": b.Device, "boot": b.Number, "interval_ms": float64(b.Period) / 1000,
			"rows": b.sent.Load(), "up_s": int(time.Since(b.born).Seconds()),
		})
	case "reboot":
		return b.rebootSoon(0)
	case "set_interval":
		period, err := reply.Interval(command.Args, minInterval, maxInterval)
		if err != nil {
			return reply.With(wire.ResultBadArgs, err.Error())
		}
		return b.rebootSoon(period.Microseconds())
	}
	return wire.Result{Status: wire.ResultUnknown}
}

// rebootSoon reboots the device once it has answered, with another period if that is
// not 0, in µs.
func (b *liveBoot) rebootSoon(period int64) wire.Result {
	if b.device.run.cfg.Faults == FaultsNone {
		return reply.With(wire.ResultRefused, "devices of a run without faults don't reboot")
	}
	if period != 0 {
		b.device.asked.Store(period)
	}
	b.restart.Store(true)
	return reply.With(wire.ResultDone, "starting again")
}

// over says whether the boot's time has come. If a command asked for it, that is a
// while after its answer has gone out, on whichever connection.
func (b *liveBoot) over(now time.Time) bool {
	if b.restartAt.IsZero() && b.restart.Load() && b.client.Stats().Commands == 0 {
		b.restartAt = now.Add(restartAfter)
	}
	return !b.restartAt.IsZero() && now.After(b.restartAt) || !b.until.IsZero() && now.After(b.until)
}

// The intervals that set_interval takes.
const (
	minInterval = time.Millisecond
	maxInterval = time.Hour
)
