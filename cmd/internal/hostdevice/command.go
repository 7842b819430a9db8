package hostdevice

import (
	"context"
	"os"
	"runtime"
	"time"

	"mooring/cmd/internal/reply"
	"mooring/wire"
)

// The intervals that set_interval takes.
const (
	minInterval = 100 * time.Millisecond
	maxInterval = time.Hour
)

// onCommand carries out what this machine understands as a device:
//
//	identify                   says which machine it is
//	set_interval {"ms": 500}   measures so often from now on
//	reboot                     is refused: it is somebody's machine
func (d *Device) onCommand(_ context.Context, command wire.Command) wire.Result {
	switch command.Name {
	case "identify":
		name, err := os.Hostname()
		if err != nil {
			name = "unknown"
		}
		return reply.With(wire.ResultDone, map[string]any{
			"host": name, "system": runtime.GOOS + "/" + runtime.GOARCH, "processors": runtime.NumCPU(), "sensors": len(d.sensors),
		})
	case "set_interval":
		interval, err := reply.Interval(command.Args, minInterval, maxInterval)
		if err != nil {
			return reply.With(wire.ResultBadArgs, err.Error())
		}
		select {
		case <-d.intervals: // one that was not taken up yet
		default:
		}
		d.intervals <- interval // commands come one at a time: there is room
		return reply.With(wire.ResultDone, map[string]any{"interval_ms": interval.Milliseconds()})
	case "reboot":
		return reply.With(wire.ResultRefused, "this is somebody's machine, it does not reboot on command")
	}
	return wire.Result{Status: wire.ResultUnknown}
}
