package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"mooring/cmd/internal/fleet"
	"mooring/cmd/internal/terminal"
)

// replayCommand is fleet replay.
type replayCommand struct {
	serverFlags

	File   string `arg:"" type:"existingfile" help:"CSV file with a header."`
	Device string `required:"" placeholder:"NAME" group:"Server" help:"The device to be."`
	Token  string `required:"" env:"MOORING_TOKEN" placeholder:"TOKEN" group:"Server" help:"Its token; better in the environment, where other users can't see it."`

	Time       []string `required:"" sep:"," placeholder:"COLUMN" group:"File" help:"Columns that say when; more than one are joined by a space."`
	TimeLayout string   `default:"2006-01-02T15:04:05Z07:00" placeholder:"LAYOUT" group:"File" help:"How to read them: Go's reference time in that form, unix or unixms (${default})."`
	Zone       string   `default:"UTC" placeholder:"ZONE" group:"File" help:"Time zone, as Europe/Rome, unless the times say it (${default})."`
	Missing    []string `sep:"," placeholder:"TEXT" group:"File" help:"What means 'no reading', beside an empty cell."`
	ShiftToNow bool     `group:"File" help:"Move all times so that the last one is now."`
	Layout     string   `placeholder:"NAME" group:"File" help:"Name of the layout, which is the name of its view in SQL (default: the file's)."`
	Rows       int      `default:"100" placeholder:"N" group:"Load" help:"Rows of one frame (${default})."`
	JSON       bool     `name:"json" group:"File" help:"Print the result as JSON."`
}

func (replayCommand) Help() string {
	return `Every column but those of --time becomes a channel of numbers, under its own name with _ in place of what names can't hold. Rows older than a year need a server that takes them: mooring serve --oldest 2000-01-01, or --shift-to-now.

  fleet replay air-quality.csv --device roadside --token … --time Date,Time --time-layout "2/1/2006 15:04:05" --missing -200

Sent again, the same file changes nothing: the rows are found to be duplicates.`
}

// Run sends the file.
func (r *replayCommand) Run(ctx context.Context, out *console) error {
	config, err := r.tls()
	if err != nil {
		return err
	}
	zone, err := time.LoadLocation(r.Zone)
	if err != nil {
		return &usageError{"--zone: " + err.Error()}
	}
	shown := newCountProgress(out.stderr, "rows")
	result, err := fleet.Replay(ctx, fleet.ReplayConfig{
		URL: r.URL, TLS: config, Device: fleet.Credential{Name: r.Device, Token: r.Token}, File: r.File,
		Format: fleet.RecordingFormat{Time: r.Time, TimeLayout: r.TimeLayout, Zone: zone, Missing: r.Missing},
		Layout: r.Layout, ShiftToNow: r.ShiftToNow, Rows: r.Rows,
		OnProgress: func(settled, all uint64) { shown.report(int64(settled), int64(all)) },
		Logger:     out.logger(out.stderr),
	})
	shown.finish()
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return fmt.Errorf("interrupted; of its rows %d are settled", result.Rows)
		}
		return err
	}
	if r.JSON {
		err = out.printJSON(result)
	} else {
		printReplay(out.stdout, &result)
	}
	if err == nil && result.Refused > 0 {
		err = errNotWell
	}
	return err
}

func printReplay(w io.Writer, result *fleet.ReplayResult) {
	count := func(n uint64) string { return strconv.FormatUint(n, 10) }
	rows := [][]string{
		{"rows", count(result.Rows)},
		{"readings", count(result.Readings)},
		{"missing", count(result.Missing)},
		{"refused", count(result.Refused)},
		{"frames", count(result.Frames)},
		{"bytes", count(result.Bytes)},
	}
	for _, reason := range slices.Sorted(maps.Keys(result.Reasons)) {
		rows = append(rows, []string{"refused, " + reason, count(result.Reasons[reason])})
	}
	terminal.Table(w, []string{result.Layout, "count"}, rows)
	fmt.Fprintf(w, "%s, %s to %s, in %.1f s\n", terminal.Count(len(result.Channels), "channel"),
		result.First.UTC().Format(time.RFC3339), result.Last.UTC().Format(time.RFC3339), result.Seconds)
	style := terminal.NewStyler(w)
	if result.Refused > 0 {
		fmt.Fprintln(w, style.Bad("the server refused some of it"))
		return
	}
	fmt.Fprintln(w, style.Good("every row is committed"))
}
