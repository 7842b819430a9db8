package main

import (
	"context"
	"errors"

	"mooring/cmd/internal/app"
	"mooring/cmd/internal/demo"
)

type demoCommand struct {
	For     app.Span `default:"0" help:"End by itself after so long, as 20s; 0: until Ctrl-C."`
	Listen  string   `default:"127.0.0.1:0" help:"Address to listen on; port 0: a free one."`
	Devices int      `default:"25" help:"Simulated devices."`
	Rate    int      `default:"500" help:"Rows a second of all simulated devices together."`
	Seed    uint64   `default:"1" help:"What values and faults are computed from."`
}

func (demoCommand) Help() string {
	return `Starts a server on a PostgreSQL of its own in a temporary directory, simulated devices that drop connections, send twice, reboot and send nonsense, and this machine as a device: processor, memory, load, disk, temperatures. All of it talks over real WebSockets.

It ends with three SQL queries and a verdict: is every row that was acknowledged stored, once, with the right values? The exit code is 0 only if so. Nothing is left behind.

  mooring demo --for 20s`
}

// Run runs the demo.
func (d *demoCommand) Run(ctx context.Context, out *console) error {
	if d.Devices < 1 || d.Devices > 10_000 {
		return usageErrorf("--devices must be 1 to 10000, not %d", d.Devices)
	}
	if d.Rate < 1 {
		return usageErrorf("--rate must be at least 1, not %d", d.Rate)
	}
	soft, hard, release := catchSignals(ctx)
	defer release()
	err := demo.Run(soft, hard, demo.Config{
		Listen: d.Listen, For: d.For.Duration(), Devices: d.Devices, Rate: d.Rate, Seed: d.Seed,
		Program: program(), Out: out.stdout, Logger: out.quietLogger,
	})
	switch {
	case errors.Is(err, demo.ErrInterrupted):
		return &codedError{exitInterrupted, demo.ErrInterrupted}
	case errors.Is(err, context.Canceled) && hard.Err() != nil:
		return &codedError{exitInterrupted, errors.New("interrupted twice: there is no verdict")}
	}
	return err
}
