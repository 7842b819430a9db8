package devices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Admin is an operator's view of the devices. It needs no gateway; what it
// changes reaches every gateway of the database at once.
type Admin struct {
	pool    *pgxpool.Pool
	sockets *sockets
}

// OpenAdmin connects to a migrated database.
func OpenAdmin(ctx context.Context, url string) (*Admin, error) {
	sockets := newSockets()
	config, err := poolConfig(url, 2, sockets)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the device registry: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		sockets.cut()
		pool.Close()
		return nil, fmt.Errorf("open the device registry: %w", err)
	}
	return &Admin{pool: pool, sockets: sockets}, nil
}

// Close lets go of the connections. It does not wait for a database that does
// not answer.
func (a *Admin) Close() {
	timer := time.AfterFunc(time.Second, a.sockets.cut)
	defer timer.Stop()
	a.pool.Close()
}

// The limits of what describes a device.
const (
	MaxModel  = 64        // bytes
	MaxLabels = 16 << 10  // bytes of JSON
	MaxCount  = 1_000_000 // devices in one AddMany
)

// NewDevice describes a device to add.
type NewDevice struct {
	Name   string            // see CheckName
	Model  string            // at most MaxModel bytes; may be empty
	Labels map[string]string // at most MaxLabels bytes as JSON; may be nil
	// TokenLifetime is how long the token is good for; 0: until it is revoked.
	TokenLifetime time.Duration
}

// NewDevices describes a fleet to add: Prefix and a number, with leading zeros
// so that names sort as their numbers do.
type NewDevices struct {
	Prefix string
	Count  int // 1 to MaxCount
	First  int // the first number. Defaults to 1

	Model         string
	Labels        map[string]string
	TokenLifetime time.Duration
}

// Added is a device that was added, and its token, which is stored nowhere:
// this is the only time it can be shown. Never log it.
type Added struct {
	Device Device
	Token  string
}

// Add registers a device and gives it a token. The errors are ErrExists, a
// *FieldError, or the database's.
func (a *Admin) Add(ctx context.Context, device NewDevice) (Device, string, error) {
	added, err := a.add(ctx, []string{device.Name}, device.Model, device.Labels, device.TokenLifetime)
	if err != nil {
		return Device{}, "", err
	}
	return added[0].Device, added[0].Token, nil
}

// AddMany registers a fleet, all of it or, if one name exists already, nothing.
// It returns the devices in the order of their numbers.
func (a *Admin) AddMany(ctx context.Context, devices NewDevices) ([]Added, error) {
	if devices.Count < 1 || devices.Count > MaxCount {
		return nil, &FieldError{"count", fmt.Sprintf("is %d; 1 to %d are allowed", devices.Count, MaxCount)}
	}
	if devices.First < 0 {
		return nil, &FieldError{"first", "is negative"}
	}
	first := orDefault(devices.First, 1)
	width := len(strconv.Itoa(first + devices.Count - 1))
	names := make([]string, devices.Count)
	for i := range names {
		names[i] = fmt.Sprintf("%s%0*d", devices.Prefix, width, first+i)
	}
	return a.add(ctx, names, devices.Model, devices.Labels, devices.TokenLifetime)
}

const addDevices = `
WITH added AS (
    INSERT INTO mooring.devices (name, model, labels)
    SELECT u.name, NULLIF($3, ''), $4::jsonb FROM unnest($1::text[]) WITH ORDINALITY AS u (name, position) ORDER BY position
    RETURNING id, name
), given AS (
    INSERT INTO mooring.tokens (device_id, hash, expires_at)
    SELECT added.id, u.hash, now() + make_interval(secs => $5::float8)
      FROM unnest($1::text[], $2::bytea[]) AS u (name, hash)
      JOIN added USING (name)
    RETURNING id, device_id
)
SELECT u.position, added.id, given.id
  FROM unnest($1::text[]) WITH ORDINALITY AS u (name, position)
  JOIN added USING (name)
  JOIN given ON given.device_id = added.id`

// maxAdd devices are added by one statement.
const maxAdd = 10_000

func (a *Admin) add(ctx context.Context, names []string, model string, labels map[string]string, lifetime time.Duration) ([]Added, error) {
	for _, name := range names {
		if err := CheckName(name); err != nil {
			return nil, err
		}
	}
	if len(model) > MaxModel || storable(model) != model {
		return nil, &FieldError{"model", fmt.Sprintf("must be text of at most %d bytes", MaxModel)}
	}
	encoded, err := encodeLabels(labels)
	if err != nil {
		return nil, err
	}
	seconds, err := lifetimeSeconds(lifetime)
	if err != nil {
		return nil, err
	}
	all := make([]Added, len(names))
	err = pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error {
		for from := 0; from < len(names); from += maxAdd {
			to := min(from+maxAdd, len(names))
			if err := addChunk(ctx, tx, names[from:to], all[from:to], model, encoded, seconds); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, a.explainExists(ctx, err, names)
	}
	return all, nil
}

func addChunk(ctx context.Context, tx pgx.Tx, names []string, added []Added, model, labels string, lifetime *float64) error {
	hashes := make([][]byte, len(names))
	for i, name := range names {
		added[i] = Added{Device: Device{Name: name}, Token: newToken()}
		key := tokenKey(added[i].Token)
		hashes[i] = key[:]
	}
	rows, err := tx.Query(ctx, addDevices, names, hashes, model, labels, lifetime)
	if err != nil {
		return err
	}
	var position int
	var device int32
	var token int64
	_, err = pgx.ForEachRow(rows, []any{&position, &device, &token}, func() error {
		d := &added[position-1].Device
		d.ID, d.TokenID = device, token
		return nil
	})
	return err
}

// explainExists turns a clash of names into ErrExists with the first of them.
func (a *Admin) explainExists(ctx context.Context, err error, names []string) error {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "23505" || refused.ConstraintName != "devices_name_key" {
		return fmt.Errorf("add devices: %w", err)
	}
	var name string
	lookup := a.pool.QueryRow(ctx, `SELECT min(name) FROM mooring.devices WHERE name = ANY ($1)`, names).Scan(&name)
	if lookup != nil {
		return fmt.Errorf("%w: one of %d names", ErrExists, len(names))
	}
	return fmt.Errorf("%w: %s", ErrExists, name)
}

func encodeLabels(labels map[string]string) (string, error) {
	if len(labels) == 0 {
		return "{}", nil
	}
	for key, value := range labels {
		if key == "" || strings.ContainsRune(key+value, 0) {
			return "", &FieldError{"labels", "keys must not be empty, and NUL is not allowed"}
		}
	}
	encoded, err := json.Marshal(labels)
	if err != nil {
		return "", &FieldError{"labels", err.Error()}
	}
	if len(encoded) > MaxLabels {
		return "", &FieldError{"labels", fmt.Sprintf("are %d bytes as JSON; at most %d are allowed", len(encoded), MaxLabels)}
	}
	return string(encoded), nil
}

// lifetimeSeconds is NULL for ever.
func lifetimeSeconds(lifetime time.Duration) (*float64, error) {
	switch {
	case lifetime < 0:
		return nil, &FieldError{"lifetime", "is negative"}
	case lifetime == 0:
		return nil, nil //nolint:nilnil // no lifetime is NULL
	}
	seconds := lifetime.Seconds()
	return &seconds, nil
}
