package bench

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// ErrNoScenario is matched by Run's error when a name is no scenario's.
var ErrNoScenario = errors.New("no scenario")

// Config says what to measure. Zero values stand for the defaults.
type Config struct {
	// Scenarios are the names of those to run, in this order. Defaults to all.
	Scenarios []string
	// For is how long each phase with load is measured. Defaults to 6 s.
	For time.Duration
	// Rounds is how often saturate and its ceilings are measured in turn, so
	// that what else the machine does meets both; live has one more, of phases
	// a third as long. Defaults to 2.
	Rounds int
	// Devices send frames of ten rows in saturate and duplicates. Defaults to 200.
	Devices int
	// OneRowDevices send frames of one row in saturate-1row. Defaults to 2,000.
	OneRowDevices int
	// SteadyDevices and SteadyRate, rows a second of all, are the load of steady.
	// Default to 1,000 and 100,000.
	SteadyDevices, SteadyRate int
	// Viewers look on in live. Defaults to 1,000, as the server lets.
	Viewers int
	// Connections of idle and storm. Defaults to what the limit of open files
	// allows, 25,000 at most: ports of one address are scarce.
	Connections int
	// IdleFor is how long idle connections are watched. Defaults to 15 s.
	IdleFor time.Duration
	// Growth are the numbers of devices of growth, rising. Defaults to 100,
	// 10,000 and 100,000.
	Growth []int
	// TurnFrames is how many frames a device of the larger fleets of growth sends
	// when it is its turn. Defaults to its window, 16.
	TurnFrames int
	// GrowthWarm is how long each fleet of growth sends before it is measured.
	// Defaults to 10 s.
	GrowthWarm time.Duration
	// PerServer is how many connections of growth one server takes. Defaults to
	// what the limit of open files allows.
	PerServer int
	// StoredRows is what lies in the table before growth is measured again; 0
	// measures that not at all. The command's default is 50 million.
	StoredRows int
	// StorageRows are written for each size that storage measures. Defaults to
	// 1 million.
	StorageRows int
	// Quiet is how long to wait until PostgreSQL has brought its counters up to
	// date. Defaults to 11 s: an idle connection reports after ten.
	Quiet time.Duration

	// Writers and Linger are the server's. Default to the server's defaults.
	Writers int
	Linger  time.Duration
	// Directory is where the throwaway database lives; it must be empty or
	// missing. Defaults to a temporary one.
	Directory string
	// Settings are parameters of PostgreSQL that override those of the private
	// one. Defaults to none.
	Settings map[string]string
	// ProfileDirectory takes a CPU profile of the server for each phase with
	// load. Defaults to none.
	ProfileDirectory string

	// OnProgress is told what begins. Defaults to nobody.
	OnProgress func(what string)
	// Errors takes what the servers complain of. Defaults to nowhere.
	Errors io.Writer
}

// reservedFiles are for everything but connections of devices.
const reservedFiles = 300

// mostConnections are those that one address can have to one port, with room.
const mostConnections = 25_000

// Scenarios are all there are, in the order in which they run.
func Scenarios() []string {
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return names
}

// OnDemand are those that run only when they are named: what the decisions on
// PostgreSQL rest on.
func OnDemand() []string {
	var names []string
	for _, s := range onDemand() {
		names = append(names, s.name)
	}
	return names
}

func orDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

func (c Config) withDefaults() (Config, error) {
	if len(c.Scenarios) == 0 {
		c.Scenarios = Scenarios()
	}
	for _, name := range c.Scenarios {
		if known := slices.Concat(Scenarios(), OnDemand()); !slices.Contains(known, name) {
			return c, fmt.Errorf("bench: %w %q, there are %s", ErrNoScenario, name, strings.Join(known, ", "))
		}
	}
	limit, err := fileLimit()
	if err != nil {
		return c, fmt.Errorf("bench: %w (only Linux has what is needed)", err)
	}
	// A server keeps a sixteenth for connections that are not devices' yet.
	most := limit - limit/16 - reservedFiles
	orDefault(&c.For, 6*time.Second)
	orDefault(&c.Rounds, 2)
	orDefault(&c.Devices, 200)
	orDefault(&c.OneRowDevices, 2000)
	orDefault(&c.SteadyDevices, 1000)
	orDefault(&c.SteadyRate, 100_000)
	orDefault(&c.Viewers, 1000)
	orDefault(&c.Connections, min(most, mostConnections))
	orDefault(&c.IdleFor, 15*time.Second)
	if len(c.Growth) == 0 {
		c.Growth = []int{100, 10_000, 100_000}
	}
	orDefault(&c.TurnFrames, steadyWindow)
	orDefault(&c.GrowthWarm, 10*time.Second)
	orDefault(&c.PerServer, most)
	orDefault(&c.StorageRows, 1_000_000)
	orDefault(&c.Quiet, 11*time.Second)
	orDefault(&c.Writers, 2)
	if c.OnProgress == nil {
		c.OnProgress = func(string) {}
	}
	if c.Errors == nil {
		c.Errors = io.Discard
	}
	for _, connected := range []int{c.Devices, c.OneRowDevices, c.SteadyDevices, c.Connections, c.Growth[0], c.PerServer} {
		if connected < 1 || connected > most {
			return c, fmt.Errorf("bench: %d devices: 1 to %d fit the limit of %d open files (the first of growth is a single server's)", connected, most, limit)
		}
	}
	if min(c.SteadyRate, c.Rounds, c.Viewers, c.TurnFrames, c.StorageRows) < 1 || c.StoredRows < 0 || !slices.IsSorted(c.Growth) {
		return c, errors.New("bench: rate, rounds, viewers, frames and rows are positive, growth rises")
	}
	if min(c.For, c.IdleFor, c.GrowthWarm, c.Quiet) < 0 {
		return c, errors.New("bench: times are positive")
	}
	return c, nil
}
