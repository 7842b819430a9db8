//go:build linux || darwin

package pgtest

import (
	"context"
	"syscall"
	"testing"
	"time"

	"mooring/storage/embedded"
)

// Postgres is a cluster of one test's own, for tests in which it fails. Its
// methods fail the test if they can't do what they say. Its URLs stay the same.
type Postgres struct {
	cluster *embedded.Cluster
}

// Options changes what Cluster makes. The zero value is the usual.
type Options struct {
	Empty    bool              // no schema
	Settings map[string]string // of postgresql.conf
	Base     string            // folder to put the cluster into; "": a fast one
}

// Cluster starts a cluster for this test alone, with the newest schema in its
// database. It is stopped and removed when the test ends.
func Cluster(tb testing.TB, options ...Options) *Postgres {
	tb.Helper()
	var wanted Options
	if len(options) > 0 {
		wanted = options[0]
	}
	cluster, err := start(wanted.Settings, wanted.Base)
	if err != nil {
		unavailable(tb, err)
	}
	p := &Postgres{cluster: cluster}
	tb.Cleanup(func() {
		p.signalAll(tb, syscall.SIGCONT) // a paused one could not stop
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // in a hurry
		if err := cluster.Stop(ctx); err != nil {
			tb.Errorf("pgtest: %v", err)
		}
	})
	if !wanted.Empty {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := migrateSchema(ctx, cluster.URL()); err != nil {
			tb.Fatalf("pgtest: make the schema: %v", err)
		}
	}
	return p
}

// URL is the connection URL of the owning role.
func (p *Postgres) URL() string { return p.cluster.URL() }

// ReaderURL is the connection URL of the role that may only read.
func (p *Postgres) ReaderURL() string { return p.cluster.ReaderURL() }

// SuperuserURL is the connection URL of the superuser, in the same database.
func (p *Postgres) SuperuserURL(tb testing.TB) string {
	tb.Helper()
	return withDatabase(tb, p.cluster.SuperuserURL(), databaseOf(tb, p.cluster.URL()))
}

// Stop stops Postgres in good order and keeps it down until Start.
func (p *Postgres) Stop(tb testing.TB) { tb.Helper(); p.halt(tb, syscall.SIGINT) }

// StopImmediately stops Postgres without a checkpoint, and without a word to
// its clients, and keeps it down until Start, which recovers.
func (p *Postgres) StopImmediately(tb testing.TB) { tb.Helper(); p.halt(tb, syscall.SIGQUIT) }

// Info tells where the cluster is and what runs it.
func (p *Postgres) Info() embedded.Info { return p.cluster.Info() }

// Kill9 kills Postgres' main process, whereupon all others end too, and keeps
// it down until Start, which recovers.
func (p *Postgres) Kill9(tb testing.TB) { tb.Helper(); p.halt(tb, syscall.SIGKILL) }

func (p *Postgres) halt(tb testing.TB, signal syscall.Signal) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := p.cluster.Halt(ctx, signal); err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
}

// Start starts a stopped or killed Postgres and waits until it can be used.
func (p *Postgres) Start(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := p.cluster.Resume(ctx); err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
}

// Pause freezes every process of Postgres: connections stay open, nothing
// answers.
func (p *Postgres) Pause(tb testing.TB) { tb.Helper(); p.signalAll(tb, syscall.SIGSTOP) }

// Resume thaws a paused Postgres.
func (p *Postgres) Resume(tb testing.TB) { tb.Helper(); p.signalAll(tb, syscall.SIGCONT) }

func (p *Postgres) signalAll(tb testing.TB, signal syscall.Signal) {
	tb.Helper()
	main := p.cluster.Info().PID
	// The main process first, so that it starts no more of them.
	for _, pid := range append([]int{main}, children(tb, main)...) {
		_ = syscall.Kill(pid, signal) // one that has just ended is as good
	}
}
