package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	maintainEvery = time.Minute
	booksEvery    = 5 * time.Second
	// workTimeout bounds a round of background work.
	workTimeout = 2 * time.Minute
	// openTries is how often Open tries to make the first partitions when a lock
	// is in the way.
	openTries = 20
)

// Store writes samples to Postgres. All methods may be called at once; Write
// once at a time per writer.
type Store struct {
	config     Config
	pool       *pgxpool.Pool
	metrics    *metrics
	writers    []*writer
	tracker    *tracker
	books      *books
	partitions *partitions
	layouts    *layouts
	views      *wideViews
	rejects    *rejectLog
	contacts   *contacts
	follower   *Follower
	sockets    sockets
	goneBack   atomic.Pointer[error] // why nothing is stored any more; nil: all is well

	stop     context.CancelFunc
	running  sync.WaitGroup
	closing  sync.Mutex // held by Close
	finished bool
}

// Open checks the database, makes the partitions of the present and starts the
// goroutines of maintenance. The schema must be migrated. ctx bounds Open
// alone.
func Open(ctx context.Context, config Config) (*Store, error) {
	config.setDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(config.Registerer)
	if err != nil {
		return nil, err
	}
	s := &Store{config: config, metrics: m, contacts: newContacts(config.Writers, m), follower: newFollower(config.Writers)}
	pool, err := newPool(ctx, config.URL, "mooring", &s.sockets, poolSize)
	if err != nil {
		return nil, err
	}
	s.pool = pool
	owner := rand.Int64() //nolint:gosec // tells processes apart, no secret
	s.tracker, s.books = newTracker(owner), newBooks(owner)
	s.views = newWideViews(pool, config.Logger, m)
	s.partitions = &partitions{
		pool: pool, width: config.Partition, ahead: config.PartitionsAhead, retention: config.Retention,
		logger: config.Logger, metrics: m, now: time.Now,
	}
	s.rejects = newRejectLog(s, config.RejectsPerMinute)
	if s.layouts, err = newLayouts(pool, &s.config, m, s.views); err != nil {
		pool.Close()
		return nil, err
	}
	for i := range config.Writers {
		w := &writer{store: s, number: i, logger: config.Logger.With("writer", i), tracker: s.tracker, turn: make(chan struct{}, 1)}
		w.put()
		s.writers = append(s.writers, w)
	}
	if err := s.check(ctx); err != nil {
		pool.Close()
		return nil, err
	}

	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.running.Go(func() { s.maintain(background) })
	s.running.Go(func() { s.keepBooks(background) })
	s.running.Go(func() { s.contacts.watch(background, pool, config.Logger) })
	s.running.Go(func() { s.rejects.run(background) })
	s.running.Go(func() { s.layouts.run(background) })
	return s, nil
}

// check finds out early what would otherwise show as rows that wait.
func (s *Store) check(ctx context.Context) error {
	var migrated bool
	var encoding, commits string
	err := s.pool.QueryRow(ctx, `SELECT to_regprocedure('mooring.fold_batches(int8, int8)') IS NOT NULL,
		current_setting('server_encoding'), current_setting('synchronous_commit')`).Scan(&migrated, &encoding, &commits)
	switch {
	case err != nil:
		return fmt.Errorf("storage: reach the database: %w", err)
	case !migrated:
		return errors.New("storage: the database's schema is not up to date: run the migrations")
	}
	if encoding != "UTF8" {
		s.config.Logger.Warn("the database's encoding is not UTF8: rows with texts that it can't represent will be rejected", "encoding", encoding)
	}
	if commits == "off" {
		s.config.Logger.Warn("synchronous_commit is off: a crash of Postgres loses rows that devices were told are stored")
	}
	if err := s.layouts.load(ctx); err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	for try := 0; ; try++ {
		err := s.partitions.ensureAhead(ctx)
		if err == nil {
			return nil
		}
		if try == openTries || ctx.Err() != nil || classify(err) != failureTransient {
			return fmt.Errorf("storage: %w", err)
		}
		pause(ctx, backoff(try))
	}
}

// Available says whether Postgres is there and takes rows, as far as known from
// the last contact, a few seconds ago at most.
func (s *Store) Available() bool { return s.contacts.good() }

// Close ends the maintenance, brings the last known values and waiting rejects
// to the database, and closes the connections. A Write that is under way is
// waited for: end its context first. When ctx ends, what is left is cut off, and
// Close says so; that costs no stored row. Close is idempotent.
func (s *Store) Close(ctx context.Context) error {
	s.closing.Lock()
	defer s.closing.Unlock()
	if s.finished {
		return nil
	}
	s.stop()
	s.running.Wait()
	// A connection to a Postgres that hangs takes its time to close: not ours.
	defer context.AfterFunc(ctx, s.sockets.cutAll)()
	var failed []error
	for _, w := range s.writers {
		failed = append(failed, w.close(ctx))
	}
	failed = append(failed,
		insist(ctx, s.rejects.flush),
		insist(ctx, func(ctx context.Context) error { return s.tracker.settle(ctx, s.pool, time.Now(), true) }),
		insist(ctx, func(ctx context.Context) error { return s.books.fold(ctx, s.pool) }))
	if err := errors.Join(failed...); err != nil && ctx.Err() == nil {
		s.config.Logger.Warn("storage closed with something left undone", "error", err)
	}
	s.pool.Close()
	s.finished = true
	return errors.Join(failed...)
}

// insist tries last work a few times, for connections of the pool may be dead
// without anybody knowing yet. What stays undone costs no stored row.
func insist(ctx context.Context, work func(context.Context) error) error {
	for try := 0; ; try++ {
		bounded, cancel := context.WithTimeout(ctx, connectTimeout)
		err := work(bounded)
		cancel()
		if err == nil || try == poolSize || ctx.Err() != nil {
			return err
		}
		pause(ctx, backoff(try))
	}
}
