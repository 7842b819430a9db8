package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mooring/cmd/internal/bench"
)

// benchCommand is fleet bench.
type benchCommand struct {
	Scenarios []string `arg:"" optional:"" help:"Which to run (default: all): saturate, saturate-1row, steady, idle, storm, growth, duplicates, storage."`

	For           time.Duration `default:"6s" placeholder:"TIME" group:"Size" help:"How long each phase with load is measured (${default})."`
	Rounds        int           `default:"2" placeholder:"N" group:"Size" help:"How often saturate and its ceilings are measured in turn (${default})."`
	Devices       int           `default:"200" placeholder:"N" group:"Size" help:"Devices of saturate and duplicates (${default})."`
	OneRowDevices int           `default:"2000" placeholder:"N" group:"Size" help:"Devices of saturate-1row (${default})."`
	SteadyDevices int           `default:"1000" placeholder:"N" group:"Size" help:"Devices of steady (${default})."`
	SteadyRate    int           `default:"100000" placeholder:"N" group:"Size" help:"Rows a second of steady (${default})."`
	Connections   int           `placeholder:"N" group:"Size" help:"Connections of idle and storm (default: what the limit of open files allows, 25,000 at most)."`
	IdleFor       time.Duration `default:"15s" placeholder:"TIME" group:"Size" help:"How long idle connections are watched (${default})."`
	Growth        []int         `sep:"," placeholder:"N,…" group:"Size" help:"Numbers of devices of growth, rising (default: 100,10000,100000)."`
	TurnFrames    int           `default:"16" placeholder:"N" group:"Size" help:"Frames that a device of the larger fleets of growth sends when it is its turn (${default})."`
	GrowthWarm    time.Duration `default:"10s" placeholder:"TIME" group:"Size" help:"How long each fleet of growth sends before it is measured (${default})."`
	PerServer     int           `placeholder:"N" group:"Size" help:"Connections of the larger fleets of growth that one server takes; with more devices there are more servers (default: what the limit of open files allows)."`
	StoredRows    int           `default:"50000000" placeholder:"N" group:"Size" help:"Rows that growth stores beforehand, some 10 GB; 0: leave that out (${default})."`
	StorageRows   int           `default:"1000000" placeholder:"N" group:"Size" help:"Rows that storage writes for each size (${default})."`
	Quiet         time.Duration `default:"11s" placeholder:"TIME" group:"Size" help:"How long storm waits for PostgreSQL's counters (${default})."`

	Writers  int               `default:"2" placeholder:"N" group:"Server" help:"The server's connections that write samples (${default})."`
	Linger   time.Duration     `placeholder:"TIME" group:"Server" help:"How long the server's writers wait for more rows (default: the server's)."`
	Dir      string            `placeholder:"DIR" group:"Database" help:"Where the throwaway database lives; must be empty or missing (default: a temporary one)."`
	Setting  map[string]string `placeholder:"NAME=VALUE" group:"Database" help:"A parameter of PostgreSQL to set, several times if need be."`
	Profiles string            `type:"existingdir" placeholder:"DIR" group:"File" help:"Write CPU profiles of the server here."`
	JSON     bool              `name:"json" group:"File" help:"Print the figures as one JSON object."`
}

func (benchCommand) Help() string {
	return `It starts a throwaway PostgreSQL that is as durable as the server's own, measures what plain COPY of the same rows reaches, then starts the server as a process of its own and drives it. Every figure stands beside its ceiling or floor of the same run, and processor time is told apart: the server's (gateway), PostgreSQL's, and the load generator's, which takes its share of the same cores.

  fleet bench
  fleet bench saturate steady --json
  fleet bench growth --growth 100,1000 --stored-rows 1000000

Linux only. Close other programs: figures of a busy machine say little, ratios somewhat more.`
}

// Run measures.
func (b *benchCommand) Run(ctx context.Context, out *console) error {
	begun := time.Now()
	report, err := bench.Run(ctx, bench.Config{
		Scenarios: b.Scenarios, For: b.For, Rounds: b.Rounds, Devices: b.Devices, OneRowDevices: b.OneRowDevices,
		SteadyDevices: b.SteadyDevices, SteadyRate: b.SteadyRate, Connections: b.Connections, IdleFor: b.IdleFor,
		Growth: b.Growth, TurnFrames: b.TurnFrames, GrowthWarm: b.GrowthWarm, PerServer: b.PerServer, StoredRows: b.StoredRows,
		StorageRows: b.StorageRows, Quiet: b.Quiet,
		Writers: b.Writers, Linger: b.Linger, Directory: b.Dir, Settings: b.Setting, ProfileDirectory: b.Profiles,
		OnProgress: func(what string) { fmt.Fprintf(out.stderr, "%5.0f s  %s\n", time.Since(begun).Seconds(), what) },
		Errors:     out.stderr,
	})
	if errors.Is(err, bench.ErrNoScenario) {
		return &usageError{err.Error()}
	}
	if err != nil {
		return err
	}
	if b.JSON {
		return out.printJSON(report)
	}
	report.Print(out.stdout)
	return nil
}
