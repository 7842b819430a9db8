package devices

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// Registry is a gateway's view of the devices. Open makes one.
type Registry struct {
	config      Config
	metrics     *metrics
	collected   *prometheus.Registry
	pool        *pgxpool.Pool
	sockets     *sockets
	backends    backends
	incarnation int32 // which start of this gateway
	opened      time.Time

	cache     *cache
	lookups   *lookups
	openings  *openings
	book      *book
	refused   refusedLog
	health    *health
	recheck   chan struct{} // capacity 1: check open sessions now
	suspected chan struct{} // capacity 1: check those of book.suspects now

	dispatcher *dispatcher

	callbacksMu sync.Mutex
	callbacks   []func(Revocation)

	stop      context.CancelFunc // asks the goroutines to end
	hurry     context.CancelFunc // ends the statements that are under way
	running   sync.WaitGroup
	closeOnce sync.Once
	closeErr  error
}

// Open connects a gateway to the registry. The database must be reachable and
// migrated. Sessions that an earlier start of this gateway left open are closed
// before it returns. ctx bounds Open itself only.
func Open(ctx context.Context, config Config) (*Registry, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	// Of its own first: an attempt that fails must leave no metrics behind.
	collected := prometheus.NewRegistry()
	r := &Registry{
		config: config, metrics: newMetrics(collected), collected: collected, opened: time.Now(),
		health: new(health), book: newBook(config.CheckEvery), openings: newOpenings(config.Waiting), recheck: make(chan struct{}, 1), suspected: make(chan struct{}, 1),
		cache: newCache(config.CacheSize, config.RefusedSize, config.CacheFor, config.RefusedFor),
	}
	r.sockets = newSockets()
	pooled, err := poolConfig(config.URL, config.Connections, r.sockets)
	if err != nil {
		return nil, err
	}
	pooled.ConnConfig.Tracer = &purposeTracer{r.metrics, config.tracer}
	r.backends.watch(pooled)
	if r.pool, err = pgxpool.NewWithConfig(ctx, pooled); err != nil {
		return nil, fmt.Errorf("open the device registry: %w", err)
	}
	r.lookups = newLookups(r.pool, r.cache, r.metrics, config.Wait, config.Waiting)
	r.lookups.health = r.health

	r.dispatcher = newDispatcher(collected)
	listener := &listener{registry: r, config: pooled.ConnConfig}
	r.observe(collected)
	err = r.register(ctx, listener)
	if err == nil && config.Registerer != nil {
		err = config.Registerer.Register(collected)
	}
	if err != nil {
		r.sockets.cut()
		listener.disconnect(ctx)
		r.pool.Close()
		return nil, fmt.Errorf("open the device registry: %w", err)
	}

	root := context.WithoutCancel(ctx)
	stop, cancelStop := context.WithCancel(root)
	operations, cancelOperations := context.WithCancel(root)
	r.stop, r.hurry = cancelStop, cancelOperations
	r.running.Go(func() { r.lookups.run(stop, operations) })
	r.running.Go(func() { r.runOpenings(stop, operations) })
	r.running.Go(func() { r.runFlushes(stop, operations) })
	r.running.Go(func() { listener.run(stop) })
	r.running.Go(func() { r.runLease(stop, operations) })
	r.running.Go(func() { r.runChecks(stop, operations) })
	r.running.Go(func() { r.runTidy(stop, operations) })
	r.running.Go(func() { r.runProbe(stop, operations) })
	r.running.Go(func() { r.runDispatch(stop, operations) })
	return r, nil
}

// poolConfig reads a URL. Connecting is bounded, so that a database which is
// away is found to be away.
func poolConfig(url string, connections int, sockets *sockets) (*pgxpool.Config, error) {
	pooled, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err) // pgx leaves the password out
	}
	pooled.MaxConns = int32(connections)
	pooled.ConnConfig.ConnectTimeout = 3 * time.Second
	pooled.ConnConfig.DialFunc = sockets.dial
	if pooled.ConnConfig.RuntimeParams["application_name"] == "" {
		pooled.ConnConfig.RuntimeParams["application_name"] = "mooring devices"
	}
	// Ours are bounded by their contexts. One that a role or database sets for
	// everybody would also stay with a session after it was taken back.
	pooled.ConnConfig.RuntimeParams["statement_timeout"] = "0"
	return pooled, nil
}

// Close ends the record of all sessions, writes what is not yet written, and
// gives the lease back. It is synchronous and idempotent. The gateway's
// connections must be closed before; sessions that have no end by then get
// one. If ctx ends first, it says how many sessions' ends are not written: the
// next start closes those, without their reason.
func (r *Registry) Close(ctx context.Context) error {
	r.closeOnce.Do(func() { r.closeErr = r.close(ctx) })
	return r.closeErr
}

func (r *Registry) close(ctx context.Context) error {
	defer r.hurry()
	// What is under way may finish while there is time.
	release := context.AfterFunc(ctx, func() {
		r.hurry()
		r.sockets.cut()
	})
	defer release()
	defer r.pool.Close()
	r.stop()
	r.running.Wait()
	if r.config.Registerer != nil {
		defer r.config.Registerer.Unregister(r.collected)
	}

	r.book.abandon(time.Now(), "the server stopped")
	if err := r.flushAll(ctx); err != nil {
		_, unwritten := r.book.size()
		return fmt.Errorf("close the device registry: the ends of %d sessions are not written: %w", unwritten, err)
	}
	if err := r.flushRefused(ctx); err != nil {
		r.config.Logger.Warn("not recorded", "error", err)
	}
	if err := r.endLease(ctx); err != nil {
		return fmt.Errorf("close the device registry: %w", err)
	}
	return nil
}

// OnRevoked adds a function that is called whenever connections are to end:
// because a token was revoked or expired, a device disabled or removed, or because
// another gateway has a newer connection of the device. It is
// called from the registry's goroutines and must not block. It may be called
// again for a session that is still open a second later.
func (r *Registry) OnRevoked(callback func(Revocation)) {
	r.callbacksMu.Lock()
	defer r.callbacksMu.Unlock()
	r.callbacks = append(r.callbacks, callback)
}

// announce calls what OnRevoked was given.
func (r *Registry) announce(revocation Revocation) {
	r.callbacksMu.Lock()
	callbacks := slices.Clip(r.callbacks)
	r.callbacksMu.Unlock()
	for _, callback := range callbacks {
		callback(revocation)
	}
}

// Progress records how far a session got. It never blocks; only the last
// progress of a session counts. Progress of a session that is not open is ignored.
func (r *Registry) Progress(progress SessionProgress) {
	r.book.progress(progress)
}

// EndSession records the end of a session. It never blocks on Postgres, and
// what it records is kept until it is written. The end of a session that is not
// open is ignored and counted.
func (r *Registry) EndSession(end SessionEnd) {
	if !r.book.end(end) {
		r.metrics.unknownSessions.Inc()
	}
}

// sleep waits, and returns false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// isNoRows says whether a single-row query found nothing.
func isNoRows(err error) bool { return errors.Is(err, pgx.ErrNoRows) }
