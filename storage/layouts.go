package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
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

// layouts gives layouts their numbers.
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
	seen      func(name string) // called once a layout was stored for the first time
}

func newLayouts(pool *pgxpool.Pool, config *Config, m *metrics, seen func(string)) (*layouts, error) {
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
		logger: config.Logger, metrics: m, ids: ids, pairs: pairs, full: full, seen: seen,
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
// when it is new, and notes that the device uses it. It answers from memory
// when it can, else it asks Postgres, once: an error other than
// ErrLayoutRefused may pass.
func (s *Store) ResolveLayout(ctx context.Context, device int32, layout *wire.Layout) (int32, error) {
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
	id, added, err := l.store(ctx, device, fingerprint, layout)
	if err != nil {
		l.remember(ctx, device, err)
		return 0, l.judge(err, device, layout)
	}
	l.ids.Add(fingerprint, id)
	l.pairs.Add(pair{device, id}, struct{}{})
	if added {
		l.logger.Info("new layout", "name", layout.Name, "id", id, "channels", len(layout.Channels), "device", device)
		l.seen(layout.Name)
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

// store finds or makes the layout and the pair, in one transaction. Two
// gateways may do the same at once: the unique keys decide, both get one number.
func (l *layouts) store(ctx context.Context, device int32, fingerprint [32]byte, layout *wire.Layout) (id int32, added bool, err error) {
	err = pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		added = false
		err := tx.QueryRow(ctx, "SELECT id FROM mooring.layouts WHERE fingerprint = $1", fingerprint[:]).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			id, added, err = l.insert(ctx, tx, fingerprint, layout)
		}
		if err != nil {
			return err
		}
		return l.join(ctx, tx, device, id)
	})
	return id, added, err
}

func (l *layouts) insert(ctx context.Context, tx pgx.Tx, fingerprint [32]byte, layout *wire.Layout) (id int32, added bool, err error) {
	// Close enough to a limit: two transactions at once may pass it by one.
	var count int
	if err := tx.QueryRow(ctx, "SELECT count(*) FROM mooring.layouts").Scan(&count); err != nil {
		return 0, false, err
	}
	if count >= l.max {
		return 0, false, fmt.Errorf("%w: there are %d layouts already", ErrLayoutRefused, count)
	}
	err = tx.QueryRow(ctx, `INSERT INTO mooring.layouts (name, fingerprint) VALUES ($1, $2)
		ON CONFLICT (fingerprint) DO NOTHING RETURNING id`, layout.Name, fingerprint[:]).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		err = tx.QueryRow(ctx, "SELECT id FROM mooring.layouts WHERE fingerprint = $1", fingerprint[:]).Scan(&id)
		return id, false, err
	}
	if err != nil {
		return 0, false, err
	}
	positions := make([]int16, len(layout.Channels))
	names, units := make([]string, len(positions)), make([]string, len(positions))
	kinds, exponents := make([]int16, len(positions)), make([]int16, len(positions))
	for i, channel := range layout.Channels {
		positions[i], names[i], units[i] = int16(i+1), channel.Name, strings.ToValidUTF8(channel.Unit, "\uFFFD")
		kinds[i], exponents[i] = int16(channel.Kind), int16(channel.Exp10)
	}
	_, err = tx.Exec(ctx, `INSERT INTO mooring.channels (layout_id, pos, name, unit, kind, exp10)
		SELECT $1, pos, name, nullif(unit, ''), kind, exp10
		FROM unnest($2::int2[], $3::text[], $4::text[], $5::int2[], $6::int2[]) AS c (pos, name, unit, kind, exp10)`,
		id, positions, names, units, kinds, exponents)
	return id, true, err
}

// join notes that the device uses the layout.
func (l *layouts) join(ctx context.Context, tx pgx.Tx, device, id int32) error {
	var known bool
	var count int
	err := tx.QueryRow(ctx, `SELECT count(*), coalesce(bool_or(layout_id = $2), false)
		FROM mooring.device_layouts WHERE device_id = $1`, device, id).Scan(&count, &known)
	if err != nil || known {
		return err
	}
	if count >= l.perDevice {
		return fmt.Errorf("%w: the device has declared %d layouts already", errDeviceFull, count)
	}
	_, err = tx.Exec(ctx, "INSERT INTO mooring.device_layouts (device_id, layout_id) VALUES ($1, $2) ON CONFLICT DO NOTHING", device, id)
	return err
}
