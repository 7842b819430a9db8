package devices

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// checkTick is how soon a revocation is repeated whose session is still open,
// and a failed check is tried again.
const checkTick = time.Second

// runChecks ends sessions whose credential is no longer good: it asks Postgres
// every CheckEvery, for expiry tells nobody, and after the listener was deaf.
// And it repeats revocations that a gateway did not act on, which happens when
// one arrives between the opening of a session and its entry in the gateway's
// books.
func (r *Registry) runChecks(stop, operations context.Context) {
	ticker := time.NewTicker(checkTick)
	defer ticker.Stop()
	due := time.Now().Add(r.config.CheckEvery)
	for {
		select {
		case <-stop.Done():
			return
		case <-r.recheck:
			due = time.Now()
		case <-ticker.C:
			for _, revocation := range r.book.overdue() {
				r.announce(revocation)
			}
		}
		if time.Now().Before(due) {
			continue
		}
		if err := r.checkSessions(operations); err != nil {
			r.config.Logger.Warn("can't check the credentials of open sessions; trying again", "error", err)
			continue // at the next tick
		}
		due = time.Now().Add(r.config.CheckEvery)
	}
}

// checkSessions finds open sessions whose credential is no longer good.
const checkSessions = `
SELECT u.session, u.device, COALESCE(u.token, 0), COALESCE(d.disabled, false)
  FROM unnest($1::int8[], $2::int4[], $3::int8[]) AS u (session, device, token)
  LEFT JOIN mooring.devices d ON d.id = u.device
  LEFT JOIN mooring.tokens t ON t.id = u.token
 WHERE d.id IS NULL OR d.disabled
    OR u.token IS NOT NULL AND (t.id IS NULL OR t.revoked_at IS NOT NULL OR t.expires_at <= now())`

func (r *Registry) checkSessions(ctx context.Context) error {
	var sessions []int64
	var devices []int32
	var tokens []*int64
	r.book.live(func(id int64, device Device) {
		sessions, devices = append(sessions, id), append(devices, device.ID)
		if device.TokenID != 0 {
			tokens = append(tokens, &device.TokenID)
		} else {
			tokens = append(tokens, nil)
		}
	})
	if len(sessions) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(withPurpose(ctx, "check sessions"), r.config.Wait)
	defer cancel()
	rows, err := r.pool.Query(ctx, checkSessions, sessions, devices, tokens)
	if err != nil {
		return err
	}
	var session int64
	var revocation Revocation
	_, err = pgx.ForEachRow(rows, []any{&session, &revocation.DeviceID, &revocation.TokenID, &revocation.Disabled}, func() error {
		if revocation.Disabled {
			revocation.TokenID = 0
		}
		r.cache.forgetDevice(revocation.DeviceID)
		if r.book.revokeSession(session, revocation) {
			r.announce(revocation)
		}
		return nil
	})
	return err
}
