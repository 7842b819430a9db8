package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"mooring/cmd/internal/app"
	"mooring/cmd/internal/terminal"
	"mooring/migrations"
)

type migrateCommands struct {
	Status migrateStatusCommand `cmd:"" help:"List the schema's versions and which are applied."`
	Up     migrateUpCommand     `cmd:"" help:"Apply what is missing. serve does it too, when it starts."`
}

type migrateStatusCommand struct {
	app.Location

	JSON bool `name:"json" help:"As JSON."`
}

// migrationJSON is a migration as --json shows it.
type migrationJSON struct {
	Version   int64      `json:"version"`
	Name      string     `json:"name"`
	AppliedAt *time.Time `json:"applied_at"` // null: pending
}

// Run lists the migrations.
func (m *migrateStatusCommand) Run(ctx context.Context, out *console) error {
	database, err := connect(m.Location)
	if err != nil {
		return err
	}
	list, err := migrations.Status(ctx, database.URL)
	if err != nil {
		return databaseError(err)
	}
	if m.JSON {
		shown := make([]migrationJSON, len(list))
		for i, migration := range list {
			shown[i] = migrationJSON{Version: migration.Version, Name: migration.Name}
			if !migration.Pending() {
				shown[i].AppliedAt = &migration.AppliedAt
			}
		}
		return out.printJSON(shown)
	}
	rows := make([][]string, len(list))
	pending := 0
	for i, migration := range list {
		state := "pending"
		if migration.Pending() {
			pending++
		} else {
			state = migration.AppliedAt.Local().Format(time.DateTime)
		}
		rows[i] = []string{strconv.FormatInt(migration.Version, 10), migration.Name, state}
	}
	terminal.Table(out.stdout, []string{"version", "file", "applied"}, rows)
	if pending > 0 {
		fmt.Fprintf(out.stdout, "%d pending: run mooring migrate up, or start the server.\n", pending)
	}
	return nil
}

type migrateUpCommand struct {
	app.Location

	JSON bool `name:"json" help:"As JSON."`
}

// Run applies what is missing.
func (m *migrateUpCommand) Run(ctx context.Context, out *console) error {
	database, err := connect(m.Location)
	if err != nil {
		return err
	}
	applied, err := migrations.Up(ctx, database.URL, out.logger(out.stderr))
	if err != nil {
		return databaseError(err)
	}
	if m.JSON {
		return out.printJSON(map[string]int{"applied": applied})
	}
	fmt.Fprintf(out.stdout, "%d applied.\n", applied)
	return nil
}
