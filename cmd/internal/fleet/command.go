package fleet

import (
	"context"
	"time"

	"mooring/cmd/internal/reply"
	"mooring/wire"
)

// restartAfter leaves a device time to send its answer before it reboots.
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
		return b.restart(0)
	case "set_interval":
		period, err := reply.Interval(command.Args, minInterval, maxInterval)
		if err != nil {
			return reply.With(wire.ResultBadArgs, err.Error())
		}
		return b.restart(period.Microseconds())
	}
	return wire.Result{Status: wire.ResultUnknown}
}

// restart reboots the device soon, with another period if that is not 0, in µs.
func (b *liveBoot) restart(period int64) wire.Result {
	if b.device.run.cfg.Faults == FaultsNone {
		return reply.With(wire.ResultRefused, "devices of a run without faults don't reboot")
	}
	if period != 0 {
		b.device.asked.Store(period)
	}
	b.restartAt.CompareAndSwap(0, time.Now().Add(restartAfter).UnixNano())
	return reply.With(wire.ResultDone, "starting again")
}

// over says whether the boot's time has come.
func (b *liveBoot) over(now time.Time) bool {
	at := b.restartAt.Load()
	return at != 0 && now.UnixNano() > at || !b.until.IsZero() && now.After(b.until)
}

// The intervals that set_interval takes.
const (
	minInterval = time.Millisecond
	maxInterval = time.Hour
)
