package main

import (
	"context"
	"fmt"

	"mooring/cmd/internal/app"
)

type dsnCommand struct {
	app.Location

	Admin bool `help:"For the role that owns everything, instead of the one that may only read."`
	JSON  bool `name:"json" help:"As JSON."`
}

func (dsnCommand) Help() string {
	return `The URL holds a password: whoever has it can read all that was measured.

  psql "$(mooring dsn)"
  psql "$(mooring dsn)" -c "SELECT * FROM readings WHERE device = 'boiler-7' ORDER BY ts DESC LIMIT 10"`
}

// Run prints the URL.
func (d *dsnCommand) Run(ctx context.Context, out *console) error {
	database, err := connect(d.Location)
	if err != nil {
		return err
	}
	url, role := database.URL, "admin"
	if !d.Admin {
		var limited bool
		if url, limited, err = database.Reader(ctx); err != nil {
			return databaseError(err)
		}
		role = "reader"
		if !limited {
			fmt.Fprintln(out.stderr, "mooring: this login may not become mooring_reader, so only its transactions are read-only unless they say otherwise."+
				"\nTo change that, run once, as somebody who may: GRANT mooring_reader TO the login (after CREATE ROLE mooring_reader and a start of the server, if there is no such role yet)")
		}
	}
	if d.JSON {
		return out.printJSON(map[string]string{"url": url, "role": role})
	}
	fmt.Fprintln(out.stdout, url)
	return nil
}
