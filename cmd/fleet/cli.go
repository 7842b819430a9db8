package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"

	"mooring/cmd/internal/app"
	"mooring/cmd/internal/fleet"
	"mooring/cmd/internal/terminal"
)

const description = `Fleet simulates devices that measure, break and come back, and judges what became of their rows.

First steps, with a server running (mooring serve):

  mooring device add --count 50 --prefix sim- --out tokens.csv
  fleet run --tokens tokens.csv --faults heavy --for 30s --ledger run.ledger
  fleet verify --ledger run.ledger
  fleet bench                                  (needs no server: starts its own)
  fleet replay recorded.csv --device roadside --token … --time Date,Time --time-layout "2/1/2006 15:04:05"
  fleet conform --exec 'python3 device.py {url} {token}'
  fleet probe --token …

Exit codes: 0 all is well · 1 failed, or not all is well: rows that were not acknowledged, answers other than the protocol's, a verdict that is not clean · 2 wrong usage.`

// Exit codes; they are listed in the description that --help shows.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// commandLine is all that can be typed.
type commandLine struct {
	LogLevel slog.Level `env:"FLEET_LOG_LEVEL" default:"error" help:"debug, info, warn or error."`

	Run     runCommand     `cmd:"" help:"Simulate a fleet."`
	Verify  verifyCommand  `cmd:"" help:"Compare a run's ledger with what the database holds."`
	Replay  replayCommand  `cmd:"" help:"Send a recorded CSV file as one device."`
	Conform conformCommand `cmd:"" help:"Hold a device program against the protocol."`
	Probe   probeCommand   `cmd:"" help:"Hold a server against the protocol."`
	Bench   benchCommand   `cmd:"" help:"Measure the server on this machine, beside what limits it."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

// console is where a command's output goes: results to stdout, everything else
// to stderr.
type console struct {
	stdout, stderr io.Writer
	logLevel       slog.Level
}

// logger writes logs to out, which is stderr or stands in for it.
func (c *console) logger(out io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: c.logLevel}))
}

func (c *console) printJSON(value any) error {
	encoder := json.NewEncoder(c.stdout)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// errNotWell means that the command did its work, showed what it found, and that
// not all of it is well.
var errNotWell = errors.New("not all is well")

// helpShown stops parsing where kong would end the process.
type helpShown struct{ code int }

// run is main without the process: it parses args, runs the command and returns
// the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	defer func() {
		switch fault := recover().(type) {
		case nil:
		case helpShown:
			code = fault.code
		default:
			panic(fault)
		}
	}()
	var line commandLine
	parser, err := newParser(&line, stdout, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "fleet:", err) // a fault of the program
		return exitFailed
	}
	parsed, err := parser.Parse(joinNegative(terminal.Habits(args)))
	if err != nil {
		fmt.Fprintln(stderr, "fleet:", terminal.UsageFault(err))
		if failure, ok := errors.AsType[*kong.ParseError](err); ok && failure.Context != nil {
			fmt.Fprintf(stderr, "Try: %s --help\n", terminal.HelpFor(failure.Context))
		}
		return exitUsage
	}
	ctx, release := catchSignals(ctx)
	defer release()
	parsed.BindTo(ctx, (*context.Context)(nil))
	err = flagError(parsed.Run(&console{stdout: stdout, stderr: stderr, logLevel: line.LogLevel}))
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errNotWell):
		return exitFailed
	default:
		fmt.Fprintln(stderr, "fleet:", strings.TrimPrefix(err.Error(), "fleet: "))
		if usage := (*usageError)(nil); errors.As(err, &usage) {
			return exitUsage
		}
		return exitFailed
	}
}

// usageError says that what was typed can't be done.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// flagError gives a configuration that can't be the name of its flag.
func flagError(err error) error {
	var config *fleet.ConfigError
	if !errors.As(err, &config) {
		return err
	}
	flag := strings.Builder{}
	for i, letter := range config.Field {
		if i > 0 && letter >= 'A' && letter <= 'Z' {
			flag.WriteByte('-')
		}
		flag.WriteRune(unicode.ToLower(letter))
	}
	return &usageError{"--" + flag.String() + ": " + config.Fault}
}

// joinNegative makes "--missing -200" one word, since a word that begins with a
// dash would otherwise be taken for a flag.
func joinNegative(args []string) []string {
	var joined []string
	for i := 0; i < len(args); i++ {
		word := args[i]
		if strings.HasPrefix(word, "--") && !strings.Contains(word, "=") && i+1 < len(args) && strings.HasPrefix(args[i+1], "-") {
			if _, err := strconv.ParseFloat(args[i+1], 64); err == nil {
				i++
				word += "=" + args[i]
			}
		}
		joined = append(joined, word)
	}
	return joined
}

func newParser(line *commandLine, stdout, stderr io.Writer) (*kong.Kong, error) {
	return kong.New(line,
		kong.Name("fleet"),
		kong.Description(description),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(helpShown{code}) }),
		kong.Vars{"data_dir": app.DefaultDataDir()},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100, FlagsLast: true}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "Server", Title: "Server:"},
			{Key: "Load", Title: "Load:"},
			{Key: "Database", Title: "Database:"},
			{Key: "File", Title: "File:"},
			{Key: "Program", Title: "Program:"},
			{Key: "Size", Title: "Size:"},
		}),
	)
}
