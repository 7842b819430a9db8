package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"mooring/wire"
)

// ErrLayoutRefused is matched by a ResolveLayout error that will not pass: there
// are too many layouts, or Postgres can't store this one.
var ErrLayoutRefused = errors.New("layout refused by the store")

const (
	// Layouts are few; the pairs are one per device, mostly.
	cachedLayouts = 20_000
	cachedPairs   = 500_000
)

// layouts gives layouts their numbers, from memory; what is new goes to the
// database in groups (layoutgroups.go).
type layouts struct {
	pool      *pgxpool.Pool
	max       int // of all devices
	perDevice int
	logger    *slog.Logger
	metrics   *metrics
	ids       *lru.Cache[[32]byte, int32]
	pairs     *lru.Cache[pair, struct{}]
	full      fullMemory
	last      atomic.Pointer[fingerprinted]
	stored    func(name string) // called once a layout was stored for the first time
	found     func()            // called when another's layout, or one of an unknown commit, was found
	bound     time.Duration     // of one group's statements
	queue     chan *asking      // those who wait for the database
	gone      chan struct{}     // closed when nobody answers any more
}

func newLayouts(pool *pgxpool.Pool, config *Config, m *metrics, views *wideViews) (*layouts, error) {
	ids, err := lru.New[[32]byte, int32](cachedLayouts)
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	pairs, err := lru.New[pair, struct{}](cachedPairs)
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	full, err := newFullMemory()
	if err != nil {
		return nil, err
	}
	return &layouts{
		pool: pool, max: config.MaxLayouts, perDevice: config.MaxLayoutsPerDevice,
		logger: config.Logger, metrics: m, ids: ids, pairs: pairs, full: full,
		stored: views.request, found: views.requestAll, bound: config.AttemptTimeout,
		queue: make(chan *asking, config.LayoutsWaiting), gone: make(chan struct{}),
	}, nil
}

// load fills the memory with what the database knows, so that a fleet that
// comes back to a server just started is not a query per device: two queries for
// all of them.
func (l *layouts) load(ctx context.Context) error {
	rows, err := l.pool.Query(ctx, "SELECT fingerprint, id FROM mooring.layouts LIMIT $1", cachedLayouts)
	if err != nil {
		return fmt.Errorf("load layouts: %w", err)
	}
	var fingerprint []byte
	var id, device int32
	if _, err := pgx.ForEachRow(rows, []any{&fingerprint, &id}, func() error {
		if len(fingerprint) == 32 {
			l.ids.Add([32]byte(fingerprint), id)
		}
		return nil
	}); err != nil {
		return fmt.Errorf("load layouts: %w", err)
	}
	rows, err = l.pool.Query(ctx, "SELECT device_id, layout_id FROM mooring.device_layouts LIMIT $1", cachedPairs)
	if err != nil {
		return fmt.Errorf("load the layouts of devices: %w", err)
	}
	if _, err := pgx.ForEachRow(rows, []any{&device, &id}, func() error {
		l.pairs.Add(pair{device, id}, struct{}{})
		return nil
	}); err != nil {
		return fmt.Errorf("load the layouts of devices: %w", err)
	}
	return nil
}

// ResolveLayout gives the store's number for a layout's content, storing it
// when it is new, and notes that the device uses it; both are committed when it
// returns. It answers from memory when it can, else it asks Postgres, together
// with whoever else waits: an error other than ErrLayoutRefused may pass, and
// asking again is right whatever came of the first time.
func (s *Store) ResolveLayout(ctx context.Context, device int32, layout *wire.Layout) (int32, error) {
	if err := s.wentBack(); err != nil {
		return 0, err
	}
	return s.layouts.resolve(ctx, device, layout)
}

// fingerprinted is a layout and its fingerprint; never changed.
type fingerprinted struct {
	name        string
	channels    []wire.Channel
	fingerprint [32]byte
}

// fingerprint gives a layout's. A fleet that comes back declares the same layout
// ten thousand times in a row, and the hash is a twentieth of what that costs.
func (l *layouts) fingerprint(layout *wire.Layout) [32]byte {
	if last := l.last.Load(); last != nil && last.name == layout.Name && slices.Equal(last.channels, layout.Channels) {
		return last.fingerprint
	}
	sum := wire.FingerprintLayout(layout.Name, layout.Channels)
	l.last.Store(&fingerprinted{layout.Name, slices.Clone(layout.Channels), sum})
	return sum
}

func (l *layouts) resolve(ctx context.Context, device int32, layout *wire.Layout) (int32, error) {
	fingerprint := l.fingerprint(layout)
	if id, known := l.ids.Get(fingerprint); known && l.pairs.Contains(pair{device, id}) {
		return id, nil
	}
	if err := l.full.refuses(device, fingerprint, time.Now()); err != nil {
		l.metrics.layoutsRefused.Inc()
		return 0, fmt.Errorf("storage: resolve layout %q: %w", layout.Name, err)
	}
	id, err := l.ask(ctx, device, fingerprint, layout)
	if err != nil {
		return 0, l.judge(err, device, layout)
	}
	return id, nil
}

// judge marks an error as final if the layout itself is the reason.
func (l *layouts) judge(err error, device int32, layout *wire.Layout) error {
	if !errors.Is(err, ErrLayoutRefused) {
		if classify(err) != failureRow {
			return fmt.Errorf("storage: resolve layout %q: %w", layout.Name, err)
		}
		err = fmt.Errorf("%w: Postgres can't store it: %w", ErrLayoutRefused, err)
	}
	l.metrics.layoutsRefused.Inc()
	l.logger.Warn("layout refused", "name", layout.Name, "device", device, "error", err)
	return fmt.Errorf("storage: resolve layout %q: %w", layout.Name, err)
}
