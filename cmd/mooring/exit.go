package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mooring/cmd/internal/app"
	"mooring/storage/embedded"
)

// Exit codes; they are listed in the description that --help shows.
const (
	exitDone       = 0
	exitFailed     = 1
	exitUsage      = 2
	exitNoDevice   = 3
	exitExists     = 4
	exitNoDatabase = 5

	exitInterrupted = 130 // as shells say it
)

// codedError is an error that has an exit code of its own.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

// usageErrorf says that what was typed can't be done.
func usageErrorf(format string, args ...any) error {
	return &codedError{exitUsage, fmt.Errorf(format, args...)}
}

// errShown means that all was said already.
var errShown = errors.New("failed")

// fail tells a person what went wrong and returns the exit code.
func (c *console) fail(err error) int {
	if !errors.Is(err, errShown) {
		fmt.Fprintln(c.stderr, "mooring:", err)
	}
	if coded, ok := errors.AsType[*codedError](err); ok {
		return coded.code
	}
	return exitFailed
}

// printJSON writes one value as JSON.
func (c *console) printJSON(value any) error {
	encoder := json.NewEncoder(c.stdout)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// connect finds the database that commands other than serve work on.
func connect(location app.Location) (app.Database, error) {
	database, err := app.FindDatabase(location)
	if err == nil {
		return database, nil
	}
	if errors.Is(err, app.ErrDatabaseURL) {
		return app.Database{}, &codedError{exitUsage, err}
	}
	if errors.Is(err, embedded.ErrNotRunning) {
		advice := "Start the server first (mooring serve), or name its data directory (--data-dir) or another database (--database-url)."
		err = fmt.Errorf("%w.\n%s", trimDot(err), advice)
	}
	return app.Database{}, &codedError{exitNoDatabase, err}
}

// unreachable says of a database that could not be reached what to look at, and
// names each reason once: pgx tells of every attempt, with TLS and without.
func unreachable(err error) error {
	if !strings.Contains(err.Error(), "failed to connect to") {
		return err
	}
	lines := slices.Compact(strings.Split(err.Error(), "\n"))
	return &unreachableError{err, strings.Join(lines, "\n") + "\nIs PostgreSQL running there, and are address, user, password and database right? (--database-url, PGPASSWORD)"}
}

type unreachableError struct {
	error
	text string
}

func (u *unreachableError) Error() string { return u.text }
func (u *unreachableError) Unwrap() error { return u.error }

type dotless struct{ error }

func (d dotless) Error() string { return strings.TrimSuffix(d.error.Error(), ".") }
func (d dotless) Unwrap() error { return d.error }

func trimDot(err error) error { return dotless{err} }
