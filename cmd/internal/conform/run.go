package conform

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config says what Run does.
type Config struct {
	// Start starts the program.
	Start Start
	// Scenarios names those to play, as Scenarios does. Defaults to all.
	Scenarios []string
	// Parallel bounds how many programs run at a time. Defaults to 12, and is
	// 3 at least.
	Parallel int
	// OnScenario is told when a scenario has ended, one call at a time. Defaults
	// to nothing.
	OnScenario func(done, all int)

	// listen opens a place for a program to connect to. Defaults to loopback.
	listen func(context.Context) (net.Listener, error)
}

// loopback listens where any program on this machine can connect.
func loopback(ctx context.Context) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
}

const defaultParallel = 12

// longest bounds a scenario: the start of a program, and the waits of two faults.
const longest = startPatience + 75*time.Second

// ErrNoScenario is matched by Run's error when a name is no scenario's.
var ErrNoScenario = errors.New("there is no scenario")

// Scenarios names all scenarios.
func Scenarios() []string {
	names := make([]string, 0, len(scenarios))
	for _, of := range scenarios {
		names = append(names, of.name)
	}
	return names
}

// Run plays the scenarios and reports on every rule. The error says why it could
// not: what a program does wrong is in the report.
func Run(ctx context.Context, cfg Config) (Report, error) {
	if cfg.Parallel == 0 {
		cfg.Parallel = defaultParallel
	}
	cfg.Parallel = max(cfg.Parallel, backoffPrograms)
	if cfg.listen == nil {
		cfg.listen = loopback
	}
	chosen, err := choose(cfg.Scenarios)
	if err != nil {
		return Report{}, err
	}
	began := time.Now()
	trust, err := newAuthorities()
	if err != nil {
		return Report{}, err
	}
	defer trust.remove()
	found, seen := newFindings(), &boots{}
	for _, of := range chosen {
		for _, id := range slices.Concat(of.rules, always) {
			found.add(of.name, id, NotShown, "")
		}
	}
	var (
		players sync.WaitGroup
		mu      sync.Mutex
		failed  []error
		done    int
	)
	room := make(chan struct{}, cfg.Parallel)
	for _, of := range chosen {
		programs := max(of.programs, 1)
		for range programs {
			room <- struct{}{} // all programs of a scenario at once, or none
		}
		players.Go(func() {
			err := play(ctx, of, cfg, trust, found, seen)
			for range programs {
				<-room
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", of.name, err))
			}
			if done++; cfg.OnScenario != nil {
				cfg.OnScenario(done, len(chosen))
			}
		})
	}
	players.Wait()
	if err := errors.Join(failed...); err != nil {
		return Report{}, err
	}
	if ctx.Err() != nil {
		return Report{}, context.Cause(ctx)
	}
	seen.judge(found)
	return NewReport(found.list(), time.Since(began)), nil
}

func choose(names []string) ([]scenario, error) {
	if len(names) == 0 {
		return scenarios, nil
	}
	var chosen []scenario
	for _, name := range names {
		at := slices.IndexFunc(scenarios, func(of scenario) bool { return of.name == name })
		if at < 0 {
			return nil, fmt.Errorf("%w %q; there are: %s", ErrNoScenario, name, strings.Join(Scenarios(), ", "))
		}
		chosen = append(chosen, scenarios[at])
	}
	return chosen, nil
}

// play plays one scenario with as many programs as it takes.
func play(ctx context.Context, of scenario, cfg Config, trust *authorities, found *findings, seen *boots) error {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	var stages []*stage
	var players sync.WaitGroup
	defer func() {
		players.Wait()
		for _, s := range stages {
			s.close()
		}
	}()
	for index := range max(of.programs, 1) {
		s, err := newStage(ctx, of.name, cfg.listen, found, seen)
		if err != nil {
			return err
		}
		s.index, s.refusals = index, of.refusals
		if len(of.certificates) > 0 {
			s.shown = of.certificates[index]
		}
		stages = append(stages, s)
		if err := s.open(cfg.Start, trust); err != nil {
			return err
		}
		players.Go(func() { of.play(s) })
	}
	players.Wait()
	if of.together != nil {
		of.together(stages)
	}
	return nil
}

// boots are the boot_ids of all programs that were started.
type boots struct {
	mu  sync.Mutex
	all []uint32
}

func (b *boots) add(boot uint32) {
	b.mu.Lock()
	b.all = append(b.all, boot)
	b.mu.Unlock()
}

// judge looks for one that came twice.
func (b *boots) judge(found *findings) {
	b.mu.Lock()
	defer b.mu.Unlock()
	slices.Sort(b.all)
	if different := slices.Compact(slices.Clone(b.all)); len(different) < len(b.all) {
		found.add("all", ruleBootID, Broken, fmt.Sprintf("%d starts had %d different boot_ids", len(b.all), len(different)))
	}
}
