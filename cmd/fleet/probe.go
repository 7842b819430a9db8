package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"

	"mooring/cmd/internal/fleet"
)

// probeCommand is fleet probe.
type probeCommand struct {
	serverFlags

	Token   string `required:"" env:"TOKEN" placeholder:"TOKEN" group:"Server" help:"The token of a device that nothing else uses meanwhile."`
	Limited string `name:"limited-token" placeholder:"TOKEN" group:"Server" help:"The token of a second device, which has a quota of rows (mooring device quota), to exceed it."`
	Drain   string `placeholder:"CMD" group:"Server" help:"What makes the server stop in good order, a line for the shell. It is run last."`
	JSON    bool   `name:"json" group:"Server" help:"Print the report as JSON."`
}

func (probeCommand) Help() string {
	return `Probe plays devices that do right and wrong, and reports which rules of PROTOCOL.md the server keeps: acks, windows, refusals by name, rows that come again, takeover, heartbeat, and every bad input that a device can do without the database's or the operator's help.

  fleet probe --url ws://127.0.0.1:8080/v1/stream --token "$(mooring device add probe)"

Two things need help. With --limited-token it exceeds the quota of a second device: THROTTLE, QUOTA, close. With --drain it has the server stop, as by 'systemctl stop mooring', and sees how it takes leave.

It needs no database. Its rows, a few hundred, stay with the device, under layouts whose names begin with fleet-. That acknowledged rows are stored, and once, is for fleet run and fleet verify. The whole takes about a minute, most of it waiting for heartbeats.

The exit code is 0 if no rule is broken.`
}

// drain gives what makes the server stop; nil: nothing does.
func (c *probeCommand) drain() func(context.Context) error {
	if c.Drain == "" {
		return nil
	}
	return func(ctx context.Context) error {
		command := exec.CommandContext(ctx, "sh", "-c", c.Drain) //nolint:gosec // to run the command is what was asked for
		if said, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("--drain %q: %w: %s", c.Drain, err, strings.TrimSpace(string(said)))
		}
		return nil
	}
}

// Run probes the server.
func (c *probeCommand) Run(ctx context.Context, out *console) error {
	config, err := c.tls()
	if err != nil {
		return err
	}
	shown := newCountProgress(out.stderr, "checks")
	report, err := fleet.Probe(ctx, fleet.ProbeConfig{
		URL: c.URL, TLS: config, Token: c.Token, LimitedToken: c.Limited, Drain: c.drain(),
		OnCheck: func(done, all int) { shown.report(int64(done), int64(all)) },
	})
	shown.finish()
	if err != nil {
		return err
	}
	return out.printReport(&report, c.JSON)
}
