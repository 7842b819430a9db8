package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"

	"mooring/cmd/internal/app"
	"mooring/cmd/internal/terminal"
)

const description = `Mooring keeps long-lived WebSocket lines to sensor devices and lands every reading in PostgreSQL. A device is told that a row is safe only after it is committed.

First steps:

  mooring demo --for 20s                    a server, 25 devices and this machine
  mooring serve                             a server on :8080 with its own PostgreSQL
  mooring device add boiler-7               a device and its token
  psql "$(mooring dsn)" -c "TABLE latest"   what was measured last

Every flag of serve can also be an environment variable (MOORING_ and the flag's name, as MOORING_DATA_DIR) or a key of a YAML file named by --config. A flag counts more than the environment, that more than the file.

Exit codes: 0 done · 1 failed · 2 wrong usage · 3 no such device · 4 the device exists already · 5 the database can't be reached (serve: 1) · 130 interrupted before there was a result.`

// commandLine is all that can be typed.
type commandLine struct {
	Config    kong.ConfigFlag `env:"MOORING_CONFIG" placeholder:"FILE" help:"YAML file with flags: 'listen: \":9000\"'."`
	LogLevel  slog.Level      `env:"MOORING_LOG_LEVEL" default:"info" help:"debug, info, warn or error."`
	LogFormat string          `env:"MOORING_LOG_FORMAT" enum:"auto,text,json" default:"auto" help:"text, json or auto: text on a terminal, JSON otherwise."`

	Serve       serveCommand       `cmd:"" help:"Run the server."`
	Demo        demoCommand        `cmd:"" help:"Run a server with simulated devices and this machine, then judge it."`
	Device      deviceCommands     `cmd:"" help:"Add, list and change devices."`
	Audit       auditCommand       `cmd:"" help:"Check that the books balance: what became of every row received."`
	Command     commandCommands    `cmd:"" help:"Ask devices to do something, and see what became of it."`
	User        userCommands       `cmd:"" help:"Add, list and remove users of the HTTP API."`
	Dsn         dsnCommand         `cmd:"" help:"Print the connection URL of the database, for psql and others."`
	Migrate     migrateCommands    `cmd:"" help:"Look at or change the database's schema."`
	Healthcheck healthcheckCommand `cmd:"" help:"Ask a running server whether it is well."`
	Version     versionCommand     `cmd:"" help:"Print the version."`
}

// console is where a command's output goes.
type console struct {
	stdout, stderr io.Writer
	style          terminal.Styler // of stdout
	logFormat      string
	logLevel       slog.Level
}

// logger writes logs to out, which is stderr or stands in for it.
func (c *console) logger(out io.Writer) *slog.Logger {
	onTerminal := terminal.IsTerminal(c.stderr)
	options := &slog.HandlerOptions{Level: c.logLevel}
	if c.logFormat == "json" || c.logFormat == "auto" && !onTerminal {
		options.ReplaceAttr = secondsInJSON
		return slog.New(slog.NewJSONHandler(out, options))
	}
	if onTerminal {
		// A person knows what day it is.
		options.ReplaceAttr = func(groups []string, attr slog.Attr) slog.Attr {
			if len(groups) == 0 && attr.Key == slog.TimeKey && attr.Value.Kind() == slog.KindTime {
				attr.Value = slog.StringValue(attr.Value.Time().Format("15:04:05.000"))
			}
			return attr
		}
	}
	return slog.New(slog.NewTextHandler(out, options))
}

// secondsInJSON makes durations numbers of seconds, where slog would write
// nanoseconds.
func secondsInJSON(_ []string, attr slog.Attr) slog.Attr {
	if attr.Value.Kind() == slog.KindDuration {
		attr.Value = slog.Float64Value(attr.Value.Duration().Seconds())
	}
	return attr
}

// quietLogger is for commands whose output is not a log: unless somebody asks
// for more, it tells only what is wrong.
func (c *console) quietLogger(out io.Writer) *slog.Logger {
	quiet := *c
	if quiet.logLevel == slog.LevelInfo {
		quiet.logLevel = slog.LevelError
	}
	if quiet.logFormat == "auto" {
		quiet.logFormat = "text"
	}
	return quiet.logger(out)
}

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
		fmt.Fprintln(stderr, "mooring:", err) // a fault of the program
		return exitFailed
	}
	parsed, err := parser.Parse(terminal.Habits(args))
	if err != nil {
		fmt.Fprintln(stderr, "mooring:", terminal.UsageFault(err))
		if failure, ok := errors.AsType[*kong.ParseError](err); ok && failure.Context != nil {
			fmt.Fprintf(stderr, "Try: %s --help\n", terminal.HelpFor(failure.Context))
		}
		return exitUsage
	}
	out := &console{
		stdout: stdout, stderr: stderr, style: terminal.NewStyler(stdout),
		logFormat: line.LogFormat, logLevel: line.LogLevel,
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	if err := parsed.Run(out); err != nil {
		return out.fail(err)
	}
	return exitDone
}

func newParser(line *commandLine, stdout, stderr io.Writer) (*kong.Kong, error) {
	return kong.New(line,
		kong.Name("mooring"),
		kong.Description(description),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(helpShown{code}) }),
		kong.Configuration(loadYAML),
		kong.Vars{"data_dir": app.DefaultDataDir()},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100, FlagsLast: true}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "Database", Title: "Database:"},
			{Key: "Network", Title: "Network:"},
			{Key: "Devices", Title: "Devices:"},
			{Key: "Doors", Title: "Doors:"},
			{Key: "Live", Title: "Live:"},
		}),
	)
}

// program is how to call this program, for advice: by its name, or the way it
// was started from a checkout.
func program() string {
	if path, err := os.Executable(); err == nil && strings.Contains(path, "go-build") {
		return "go run ./cmd/mooring"
	}
	return filepath.Base(os.Args[0])
}
