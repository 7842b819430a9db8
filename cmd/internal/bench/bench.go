package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"mooring/cmd/internal/app"
	"mooring/devices"
	"mooring/migrations"
	"mooring/storage"
	"mooring/storage/embedded"
)

// scenarios are the functions that measure, by name.
var scenarios = []scenario{
	{"saturate", (*bench).saturate},
	{"saturate-1row", (*bench).saturateOneRow},
	{"steady", (*bench).steady},
	{"idle", (*bench).idle},
	{"storm", (*bench).storm},
	{"growth", (*bench).growth},
	{"duplicates", (*bench).duplicates},
	{"storage", (*bench).storage},
}

type scenario struct {
	name    string
	measure func(*bench, context.Context) (Scenario, error)
}

// tenRows and oneRow are the frames of the loads.
var (
	tenRows = shape{rows: 10, channels: 5}
	oneRow  = shape{rows: 1, channels: 5}
)

// bench is a run.
type bench struct {
	cfg     Config
	cluster *embedded.Cluster
	probe   *storage.Probe
	fleet   []devices.Added
	layouts map[int]int32 // by number of channels, the store's number
	warm    time.Duration // how long a load runs before it is measured
}

// generatorGarbage is the GOGC of the generator.
const generatorGarbage = 400

// Run measures the scenarios one after the other and returns when all it
// started has ended. It needs Linux, and PostgreSQL as embedded.Start does. If ctx
// ends, the error is its cause, and not what that led to.
func Run(ctx context.Context, cfg Config) (report *Report, err error) {
	var cleanup error
	if report, cleanup, err = run(ctx, cfg); err != nil && ctx.Err() != nil {
		err = fmt.Errorf("not measured to the end: %w", context.Cause(ctx))
	}
	return report, errors.Join(err, cleanup)
}

// run is Run; cleanup tells whether all that it started could be put away.
func run(ctx context.Context, cfg Config) (report *Report, cleanup, err error) {
	if cfg, err = cfg.withDefaults(); err != nil {
		return nil, nil, err
	}
	// The generator shares the cores with what it measures.
	defer debug.SetGCPercent(debug.SetGCPercent(generatorGarbage))
	cfg.OnProgress("PostgreSQL starts")
	b := &bench{cfg: cfg, layouts: make(map[int]int32), warm: min(warmUp, cfg.For/3)}
	if b.cluster, err = embedded.Start(ctx, embedded.Config{
		DataDir: cfg.Directory, Throwaway: true, Settings: settingsOf(cfg.Settings),
		Logger: slog.New(slog.NewTextHandler(cfg.Errors, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}); err != nil {
		return nil, nil, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if b.probe != nil {
			_ = b.probe.Close(ctx)
		}
		cleanup = b.cluster.Stop(ctx)
	}()
	if _, err := migrations.Up(ctx, b.cluster.URL(), slog.New(slog.DiscardHandler)); err != nil {
		return nil, nil, err
	}
	if b.probe, err = storage.OpenProbe(ctx, b.cluster.URL(), b.cluster.SuperuserURL(), 2); err != nil {
		return nil, nil, err
	}
	report = &Report{}
	if report.Machine, err = b.machine(ctx); err != nil {
		return nil, nil, err
	}
	if err := b.breakIn(ctx); err != nil {
		return nil, nil, err
	}
	wanted := make(map[string]bool)
	for _, name := range cfg.Scenarios {
		wanted[name] = true
	}
	for _, s := range slices.Concat(scenarios, onDemand()) {
		if !wanted[s.name] {
			continue
		}
		measured, err := s.measure(b, ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", s.name, err)
		}
		measured.Name = s.name
		report.Scenarios = append(report.Scenarios, measured)
	}
	return report, nil, nil
}

// minimalLog are the settings with which rows that growth stores beforehand are
// not logged, since their table is made in the same transaction (decision 107).
// What a load writes is logged as ever.
var minimalLog = map[string]string{"wal_level": "minimal", "max_wal_senders": "0"}

// settingsOf joins the user's settings to ours; theirs count.
func settingsOf(given map[string]string) map[string]string {
	joined := maps.Clone(minimalLog)
	maps.Copy(joined, given)
	return joined
}

// say tells what begins.
func (b *bench) say(format string, args ...any) { b.cfg.OnProgress(fmt.Sprintf(format, args...)) }

// devices gives this many devices of the fleet, which it registers if need be.
func (b *bench) devices(ctx context.Context, count int, base int64) ([]*device, error) {
	if missing := count - len(b.fleet); missing > 0 {
		b.say("registering %d devices", missing)
		admin, err := devices.OpenAdmin(ctx, b.cluster.URL())
		if err != nil {
			return nil, err
		}
		defer admin.Close()
		added, err := admin.AddMany(ctx, devices.NewDevices{
			Prefix: fmt.Sprintf("bench-%d-", len(b.fleet)), Count: missing, Model: "bench",
		})
		if err != nil {
			return nil, err
		}
		b.fleet = append(b.fleet, added...)
	}
	list := make([]*device, count)
	for i := range list {
		list[i] = &device{token: b.fleet[i].Token, base: base}
	}
	return list, nil
}

// now is a time for row 0.
func now() int64 { return time.Now().UnixMilli() }

// fresh empties the table and makes sure that its partitions are there. No
// server may run.
func (b *bench) fresh(ctx context.Context) error {
	if err := b.probe.Empty(ctx); err != nil {
		return err
	}
	return b.probe.Checkpoint(ctx)
}

// layout gives the store's number of the layout of so many channels.
func (b *bench) layout(ctx context.Context, channels int) (int32, error) {
	if number, ok := b.layouts[channels]; ok {
		return number, nil
	}
	if _, err := b.devices(ctx, 1, 0); err != nil {
		return 0, err
	}
	store, err := storage.Open(ctx, storage.Config{URL: b.cluster.URL(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 0, err
	}
	number, err := store.ResolveLayout(ctx, b.fleet[0].Device.ID, shape{rows: 1, channels: channels}.layout())
	if err != nil {
		return 0, errors.Join(err, store.Close(ctx))
	}
	b.layouts[channels] = number
	return number, store.Close(ctx)
}

// server starts the server under test.
func (b *bench) server(ctx context.Context) (*child, error) {
	return startChild(ctx, b.order(), b.cfg.Errors)
}

func (b *bench) order() order {
	return order{
		DatabaseURL: b.cluster.URL(), Writers: b.cfg.Writers, Linger: b.cfg.Linger, Gateway: "bench",
		Connections: max(b.cfg.Connections, 100_000),
	}
}

// bareServer starts what the server is held against.
func (b *bench) bareServer(ctx context.Context) (*child, error) {
	return startChild(ctx, order{Bare: true}, b.cfg.Errors)
}

// profile writes a profile of the server until the returned function is called,
// if that is wanted.
func (b *bench) profile(server *child, name string) (stop func() error, err error) {
	if b.cfg.ProfileDirectory == "" {
		return func() error { return nil }, nil
	}
	path, err := b.profilePath(name + ".pprof")
	if err != nil {
		return nil, err
	}
	return func() error { return server.tell(commandStop) }, server.tell(commandProfile + " " + path)
}

// heap writes what the server holds in memory, if profiles are wanted.
func (b *bench) heap(server *child, name string) error {
	if b.cfg.ProfileDirectory == "" {
		return nil
	}
	path, err := b.profilePath(name + ".heap")
	if err != nil {
		return err
	}
	return server.tell(commandHeap + " " + path)
}

// profilePath is absolute, for another process.
func (b *bench) profilePath(name string) (string, error) {
	return filepath.Abs(filepath.Join(b.cfg.ProfileDirectory, name))
}

// shownSettings are what a reader of figures wants to know of PostgreSQL.
var shownSettings = []string{
	"fsync", "synchronous_commit", "full_page_writes", "wal_compression", "shared_buffers",
	"max_wal_size", "checkpoint_timeout", "wal_buffers", "wal_level",
}

// machine describes what it ran on.
func (b *bench) machine(ctx context.Context) (map[string]any, error) {
	described, err := describeMachine()
	if err != nil {
		return nil, err
	}
	settings := make(map[string]string)
	for _, name := range shownSettings {
		if settings[name], err = b.probe.Setting(ctx, name); err != nil {
			return nil, err
		}
	}
	info := b.cluster.Info()
	build := app.ReadBuild()
	maps.Copy(described, map[string]any{
		"postgres": info.Version, "postgres_settings": settings, "writers": b.cfg.Writers,
		"revision": build.Revision, "modified": build.Modified,
	})
	return described, nil
}
