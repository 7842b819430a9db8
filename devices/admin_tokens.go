package devices

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// DefaultGrace is how long the old token stays good after a rotation.
const DefaultGrace = 24 * time.Hour

// Rotation says how a device gets a new token.
type Rotation struct {
	// Now revokes every older token at once, which ends a session that uses one.
	Now bool
	// Grace is how long the older token stays good. Defaults to DefaultGrace.
	Grace time.Duration
	// Lifetime of the new token; 0: until it is revoked.
	Lifetime time.Duration
	// Label of the new token, for people; may be empty.
	Label string
}

// Rotate gives a device a new token, shown this once. The older one stays good
// for the grace period, never longer than it would have anyway. Two tokens are
// live at most: if there are two already, the one that was used last, or else
// the newer one, stays for the grace period, and the other is revoked at once.
func (a *Admin) Rotate(ctx context.Context, name string, rotation Rotation) (Device, string, error) {
	if rotation.Grace < 0 {
		return Device{}, "", &FieldError{"grace", "is negative"}
	}
	if len(rotation.Label) > MaxModel || storable(rotation.Label) != rotation.Label {
		return Device{}, "", &FieldError{"label", fmt.Sprintf("must be text of at most %d bytes", MaxModel)}
	}
	lifetime, err := lifetimeSeconds(rotation.Lifetime)
	if err != nil {
		return Device{}, "", err
	}
	device := Device{Name: name}
	token := newToken()
	err = pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error {
		// The lock makes rotations of one device wait for each other.
		err := tx.QueryRow(ctx, `SELECT id FROM mooring.devices WHERE name = $1 FOR NO KEY UPDATE`, name).Scan(&device.ID)
		if err != nil {
			return err
		}
		var keep int64 // no token has number 0
		if !rotation.Now {
			err = tx.QueryRow(ctx, `
SELECT t.id FROM mooring.tokens t
 WHERE t.device_id = $1 AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now())
 ORDER BY (SELECT max(s.id) FROM mooring.sessions s WHERE s.device_id = $1 AND s.token_id = t.id) DESC NULLS LAST, t.id DESC
 LIMIT 1`, device.ID).Scan(&keep)
			if err != nil && !isNoRows(err) {
				return err
			}
		}
		if _, err = tx.Exec(ctx, `
UPDATE mooring.tokens
   SET revoked_at = CASE WHEN id <> $2 THEN now() END,
       expires_at = CASE WHEN id = $2 THEN LEAST(expires_at, now() + make_interval(secs => $3)) ELSE expires_at END
 WHERE device_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())`,
			device.ID, keep, orDefault(rotation.Grace, DefaultGrace).Seconds()); err != nil {
			return err
		}
		key := tokenKey(token)
		return tx.QueryRow(ctx, `
INSERT INTO mooring.tokens (device_id, hash, label, expires_at)
VALUES ($1, $2, NULLIF($3, ''), now() + make_interval(secs => $4::float8)) RETURNING id`,
			device.ID, key[:], rotation.Label, lifetime).Scan(&device.TokenID)
	})
	if err != nil {
		return Device{}, "", explain("rotate", name, err)
	}
	return device, token, nil
}

// Revoke revokes a token of a device, or all of them if token is 0, and ends
// the sessions that use them. It returns how many were live.
func (a *Admin) Revoke(ctx context.Context, name string, token int64) (int, error) {
	var found bool
	var revoked int
	err := a.pool.QueryRow(ctx, `
WITH device AS (
    SELECT id FROM mooring.devices WHERE name = $1
), revoked AS (
    UPDATE mooring.tokens t SET revoked_at = now()
      FROM device
     WHERE t.device_id = device.id AND ($2 = 0 OR t.id = $2)
       AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now())
    RETURNING t.id
)
SELECT EXISTS (SELECT FROM device), (SELECT count(*) FROM revoked)`, name, token).Scan(&found, &revoked)
	if err == nil && !found {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return 0, explain("revoke", name, err)
	}
	return revoked, nil
}

// explain names what failed, and turns "no row" into ErrNotFound.
func explain(what, name string, err error) error {
	if isNoRows(err) {
		return fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	return fmt.Errorf("%s %s: %w", what, name, err)
}
