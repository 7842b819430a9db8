package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"mooring/cmd/internal/fleet"
)

// runCommand is fleet run.
type runCommand struct {
	serverFlags

	Tokens  string `required:"" type:"existingfile" placeholder:"FILE" group:"Server" help:"CSV file of name,token, as mooring device add --count … --out writes it."`
	Devices int    `placeholder:"N" group:"Load" help:"Devices: the first so many of the file (default: all)."`

	Rate     int           `default:"1000" placeholder:"N" group:"Load" help:"Rows a second of all devices together; 0: as many as the server acknowledges (${default})."`
	Rows     int           `default:"10" placeholder:"N" group:"Load" help:"Rows of one frame (${default})."`
	Channels int           `default:"5" placeholder:"N" group:"Load" help:"Channels of a row; from 6 on there are a bool and a text among them (${default})."`
	For      time.Duration `default:"0" placeholder:"TIME" group:"Load" help:"How long devices measure, as 60s; 0: until Ctrl-C (${default})."`
	Settle   time.Duration `default:"60s" placeholder:"TIME" group:"Load" help:"How long to wait afterwards for the last acks (${default})."`
	Buffer   time.Duration `default:"2s" placeholder:"TIME" group:"Load" help:"For how long a device keeps rows that are not acknowledged, before it makes no more (${default})."`
	Seed     uint64        `default:"1" placeholder:"N" group:"Load" help:"Decides values, times and the choice of faults (${default})."`
	Faults   string        `enum:"none,light,heavy" default:"none" placeholder:"LEVEL" group:"Load" help:"What goes wrong on purpose: none, light or heavy (${default})."`

	Refusals uint64    `placeholder:"N" group:"Load" help:"One row in so many carries something to be refused (default: as --faults says)."`
	Share    int       `default:"1" placeholder:"N" group:"Load" help:"So many devices use one credential, against each other (${default})."`
	Clock    time.Time `placeholder:"TIME" group:"Load" help:"What devices' clocks say at first, as 1970-01-01T00:00:00Z; all rows must be refused then."`

	BackoffScale float64 `placeholder:"X" group:"Load" help:"Multiplies the protocol's waits before a reconnect (default: 0.01 with faults, else 1)."`
	Progress     string  `placeholder:"FILE" group:"File" help:"Where to write how the run goes, a line of JSON ten times a second."`
	Ledger       string  `placeholder:"FILE" group:"File" help:"Where to note what was sent and acknowledged, for fleet verify."`
	Force        bool    `group:"File" help:"Overwrite a ledger that exists."`
	JSON         bool    `name:"json" group:"File" help:"Print the result as JSON."`
}

func (runCommand) Help() string {
	return `Faults are dropped connections in the middle of a frame, half-open links, slow readers, trickled bytes, clocks that leap or tick in seconds, reboots, values and rows that must be refused, second connections of a device, rows sent again in other groups, wrong tokens, and every bad input of PROTOCOL.md that a device can do; the answers are checked. All of it is chosen by --seed.

So that such a run is not all waiting, faults shorten the protocol's waits before a reconnect (a minute after a takeover, for example) to a hundredth; --backoff-scale 1 restores them.

At the end devices stop measuring, and the run waits until everything sent is acknowledged. Ctrl-C ends it the same way; a second one at once.`
}

// Run runs the fleet.
func (r *runCommand) Run(ctx context.Context, out *console) error {
	if err := r.freeLedger(); err != nil {
		return err
	}
	tokens, err := fleet.ReadTokens(r.Tokens)
	if err != nil {
		return err
	}
	if r.Devices > len(tokens) {
		return &usageError{fmt.Sprintf("--devices %d: %s has %d", r.Devices, r.Tokens, len(tokens))}
	}
	if r.Devices > 0 {
		tokens = tokens[:r.Devices]
	}
	config, err := r.tls()
	if err != nil {
		return err
	}
	shown := newRunProgress(out.stderr, r.For)
	report, every := shown.report, shown.every()
	if r.Progress != "" {
		log, err := newProgressLog(r.Progress)
		if err != nil {
			return err
		}
		defer log.close()
		report, every = log.beside(report, every)
	}
	result, err := fleet.Run(ctx, fleet.Config{
		URL: r.URL, Tokens: tokens, Rate: r.Rate, Rows: r.Rows, Channels: r.Channels,
		For: r.For, Settle: r.Settle, Seed: r.Seed, Faults: fleet.Faults(r.Faults),
		Refusals: r.Refusals, Share: r.Share, Clock: r.Clock,
		BackoffScale: r.BackoffScale, Buffer: r.Buffer, Ledger: r.Ledger, TLS: config,
		OnProgress: report, ProgressEvery: every, Logger: out.logger(shown),
	})
	shown.finish()
	if err != nil {
		return err
	}
	if r.JSON {
		err = out.printJSON(result)
	} else {
		result.Print(out.stdout)
	}
	if err == nil && result.Acked == 0 {
		err = fmt.Errorf("not a single row was acknowledged: %s", cmp.Or(result.LastError, "the run was too short for one"))
	}
	if err == nil && (!result.Settled() || len(result.Surprises()) > 0) {
		err = errNotWell
	}
	return err
}

// freeLedger keeps a run from overwriting what a verdict on an earlier one needs.
func (r *runCommand) freeLedger() error {
	if r.Ledger == "" || r.Force {
		return nil
	}
	switch info, err := os.Stat(r.Ledger); {
	case err == nil && info.Mode().IsRegular():
		return &usageError{fmt.Sprintf("--ledger: %s exists, and without it that run can't be verified any more; --force overwrites it", r.Ledger)}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("--ledger: %w", err)
	}
	return nil
}
