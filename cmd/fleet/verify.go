package main

import (
	"context"
	"errors"

	"mooring/cmd/internal/app"
	"mooring/cmd/internal/fleet"
	"mooring/storage"
)

// verifyCommand is fleet verify.
type verifyCommand struct {
	app.Location

	Ledger   string `required:"" type:"existingfile" placeholder:"FILE" group:"File" help:"The ledger that fleet run wrote."`
	Problems int    `default:"20" placeholder:"N" group:"File" help:"List so many problems (${default})."`
	JSON     bool   `name:"json" group:"File" help:"Print the verdict as JSON."`
}

func (verifyCommand) Help() string {
	return `Every row of a run is a pure function of the ledger, so verify computes each again and compares it with what is stored: each acknowledged row is there, once, with the time and the values that were sent, less what the server had to refuse; and nothing is there that was not sent. Rows that were sent and not acknowledged may be there or not. Rows of other runs and devices are left aside.

  fleet verify --ledger run.ledger --database-url "$(mooring dsn)"

The exit code is 0 only for a clean verdict.`
}

// Run judges the run.
func (v *verifyCommand) Run(ctx context.Context, out *console) error {
	ledger, err := fleet.ReadLedger(v.Ledger)
	if err != nil {
		return err
	}
	database, err := app.FindDatabase(v.Location)
	if errors.Is(err, app.ErrDatabaseURL) {
		return &usageError{err.Error()}
	}
	if err != nil {
		return err
	}
	reader, err := storage.OpenReader(ctx, database.URL)
	if err != nil {
		return err
	}
	defer reader.Close()
	shown := newCountProgress(out.stderr, "devices")
	verdict, err := fleet.Verify(ctx, reader, ledger, fleet.MaxProblems(v.Problems),
		fleet.OnDevice(func(done, all int) { shown.report(int64(done), int64(all)) }))
	shown.finish()
	if err != nil {
		return err
	}
	if v.JSON {
		err = out.printJSON(verdict)
	} else {
		verdict.Print(out.stdout)
	}
	if err == nil && !verdict.Clean {
		err = errNotWell
	}
	return err
}
