package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"mooring/cmd/internal/app"
	"mooring/cmd/internal/terminal"
)

type serveCommand struct {
	app.Config
}

func (serveCommand) Help() string {
	return `Without --database-url it runs a PostgreSQL of its own in the data directory.

  mooring serve
  mooring serve --listen 127.0.0.1:9000 --data-dir ./mooring-data
  mooring serve --database-url postgres://mooring@db/mooring --retention 2y --oldest 30d

SIGTERM and Ctrl-C stop it in good order: devices are told when to come back, what they sent is written and acknowledged. A second signal cuts that short; nothing acknowledged is lost either way.`
}

// Run serves until a signal or a failure.
func (s *serveCommand) Run(ctx context.Context, out *console) error {
	if err := s.Validate(); err != nil {
		return &codedError{exitUsage, err}
	}
	s.Logger = out.logger(out.stderr)
	soft, hard, release := catchSignals(ctx)
	defer release()

	server := app.New(s.Config)
	// From before the start to behind the stop: SIGHUP would end the process.
	watched, endWatch := context.WithCancel(context.WithoutCancel(ctx))
	reloading := reloads(watched, server)
	defer func() {
		endWatch()
		<-reloading
	}()

	begun := time.Now()
	if err := server.Start(soft); err != nil {
		if soft.Err() != nil {
			return errShown // by whoever sent the signal
		}
		return serveError(err)
	}
	s.Logger.Info("mooring serves", "address", server.Addr(), "version", app.ReadBuild().Version, "took", time.Since(begun).Round(time.Millisecond))
	if terminal.IsTerminal(out.stderr) {
		s.welcome(out.stderr, server)
	}

	var failure error
	select {
	case <-soft.Done():
		s.Logger.Info("stopping: devices are told to come back, what they sent is written", "grace", s.Grace.String())
	case failure = <-server.Failed():
		s.Logger.Error("stopping", "error", failure)
	}
	if err := server.Stop(hard); err != nil {
		s.Logger.Error("stopped in a hurry; what was not acknowledged, devices send again", "error", err)
		return errShown
	}
	s.Logger.Info("stopped")
	if failure != nil {
		return errShown
	}
	return nil
}

// reloads has the server look at its certificate files at every SIGHUP, until
// ctx ends; then the channel is closed.
func reloads(ctx context.Context, server *app.App) <-chan struct{} {
	done := make(chan struct{})
	received := make(chan os.Signal, 1)
	signal.Notify(received, syscall.SIGHUP)
	go func() {
		defer close(done)
		defer signal.Stop(received)
		for {
			select {
			case <-received:
				server.Reload()
			case <-ctx.Done():
				return
			}
		}
	}()
	return done
}

// serveError adds to a failed start what to do about it, where it is known.
func serveError(err error) error {
	if errors.Is(err, app.ErrDatabaseURL) {
		return &codedError{exitUsage, err}
	}
	if strings.Contains(err.Error(), "address already in use") {
		return fmt.Errorf("%w.\nAnother program listens there; choose another address with --listen", trimDot(err))
	}
	return unreachable(err)
}

// welcome tells a person where things are and what to do next.
func (s *serveCommand) welcome(w io.Writer, server *app.App) {
	style := terminal.NewStyler(w)
	where := ""
	database := server.Database()
	if database.Embedded != nil {
		if s.DataDir != "" && s.DataDir != app.DefaultDataDir() {
			where = " --data-dir " + quote(s.DataDir)
		}
		fmt.Fprintf(w, "\n  Data      PostgreSQL %s in %s\n", database.Embedded.Version, database.Embedded.DataDir)
	} else {
		where = " --database-url …"
		fmt.Fprintf(w, "\n  Data      %s\n", app.Redact(database.URL))
	}
	fmt.Fprintf(w, "  Devices   %s\n", style.Bold(server.URL()))
	fmt.Fprintf(w, "  Console   %s\n", server.ConsoleURL())
	fmt.Fprintf(w, "  Next      %s device add boiler-7%s\n", program(), where)
	fmt.Fprintf(w, "            %s user add me --role admin%s      (logs in to the console)\n", program(), where)
	fmt.Fprintf(w, "            psql \"$(%s dsn%s)\" -c 'TABLE latest'\n", program(), where)
	fmt.Fprintf(w, "  Stop      Ctrl-C, in good order; twice: at once\n\n")
}

// quote makes a word of a shell's command line.
func quote(word string) string {
	if strings.ContainsFunc(word, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:-@%+=,", r)
	}) {
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return word
}

// catchSignals turns the first SIGINT or SIGTERM into the end of soft and the
// second into the end of hard. A third ends the process, as signals do. The end
// of parent is like a first signal. release gives the signals back.
func catchSignals(parent context.Context) (soft, hard context.Context, release func()) {
	soft, endSoft := context.WithCancel(parent)
	hard, endHard := context.WithCancel(context.WithoutCancel(parent))
	received := make(chan os.Signal, 2)
	signal.Notify(received, os.Interrupt, syscall.SIGTERM)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for _, end := range []func(){endSoft, endHard} {
			select {
			case <-received:
				end()
			case <-done:
				return
			}
		}
		signal.Stop(received)
	}()
	return soft, hard, func() {
		signal.Stop(received)
		close(done)
		<-ended
		endSoft()
		endHard()
	}
}
