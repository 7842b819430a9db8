package main

import (
	"context"
	"errors"
	"strings"

	"mooring/cmd/internal/conform"
)

// conformCommand is fleet conform.
type conformCommand struct {
	Exec     string   `required:"" placeholder:"CMD" group:"Program" help:"The program, a line for the shell in which {url} and {token} stand for what it is to use, and {ca} for the file of the authority to trust."`
	Scenario []string `placeholder:"NAME" group:"Program" help:"Play only this scenario; may be given several times (default: all)."`
	Parallel int      `default:"12" placeholder:"N" group:"Program" help:"How many programs run at a time, at least 3 (${default})."`
	JSON     bool     `name:"json" group:"Program" help:"Print the report as JSON."`
}

func (conformCommand) Help() string {
	return `Conform plays a server that acknowledges late, breaks the line, goes away, refuses, throttles and says what no version says yet, and reports which rules of PROTOCOL.md the program keeps.

  fleet conform --exec 'python3 device.py {url} {token}'

The program is started anew for every scenario, several at a time, and ended with SIGTERM. It should connect at once, send a row several times a second until it is ended, keep what is not acknowledged, and take its time to come back from the protocol, not from a setting. What it gives no occasion for is "not shown". In two scenarios the URL begins with wss; the program is told which authority to trust by {ca}, and by SSL_CERT_FILE and NODE_EXTRA_CA_CERTS in its environment. The whole takes half a minute to a minute.

Scenarios: ` + strings.Join(conform.Scenarios(), ", ") + `.

The exit code is 0 if no rule is broken and at least one was seen to be kept; departures from a SHOULD are reported and are not counted as broken.`
}

// Run plays all scenarios.
func (c *conformCommand) Run(ctx context.Context, out *console) error {
	start, err := conform.Command(c.Exec)
	if err != nil {
		return &usageError{"--exec: " + err.Error()}
	}
	shown := newCountProgress(out.stderr, "scenarios")
	report, err := conform.Run(ctx, conform.Config{
		Start: start, Scenarios: c.Scenario, Parallel: c.Parallel,
		OnScenario: func(done, all int) { shown.report(int64(done), int64(all)) },
	})
	shown.finish()
	if errors.Is(err, conform.ErrNoScenario) {
		return &usageError{"--scenario: " + err.Error()}
	}
	if err != nil {
		return err
	}
	return out.printReport(&report, c.JSON)
}

// printReport writes a report; errNotWell if it is not good.
func (c *console) printReport(report *conform.Report, asJSON bool) error {
	if asJSON {
		if err := c.printJSON(report); err != nil {
			return err
		}
	} else {
		report.Print(c.stdout)
	}
	if !report.Good() {
		return errNotWell
	}
	return nil
}
