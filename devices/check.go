package devices

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// checkTick is how soon a revocation is repeated whose session is still open,
// and a failed check is tried again.
const checkTick = time.Second

// runChecks ends sessions whose credential is no longer good. It asks Postgres
// about sessions that a notification casts doubt on, and about all of them every
// CheckEvery, for expiry tells nobody, and after the listener was deaf. And it
// repeats revocations that a gateway did not act on, which happens when one
// arrives between the opening of a session and its entry in the gateway's books.
func (r *Registry) runChecks(stop, operations context.Context) {
	ticker := time.NewTicker(checkTick)
	defer ticker.Stop()
	due := time.Now().Add(r.config.CheckEvery)
	for {
		which := r.book.takeSuspects
		select {
		case <-stop.Done():
			return
		case <-r.suspected:
		case <-r.recheck:
			due = time.Now()
		case <-ticker.C:
			for _, revocation := range r.book.overdue() {
				r.announce(revocation)
			}
		}
		all := !time.Now().Before(due)
		if all {
			which = r.book.live
		}
		if err := r.checkSessions(operations, which); err != nil {
			r.config.Logger.Warn("can't check the credentials of open sessions; trying again", "error", err)
			due = time.Now() // all of them, at the next tick
			continue
		}
		if all {
			due = time.Now().Add(r.config.CheckEvery)
		}
	}
}

// findRevoked finds sessions whose credential is no longer good.
const findRevoked = `
SELECT u.session, u.device,
       CASE WHEN d.id IS NULL OR d.disabled THEN 0 ELSE COALESCE(u.token, 0) END,
       COALESCE(d.disabled, false)
  FROM unnest($1::int8[], $2::int4[], $3::int8[]) AS u (session, device, token)
  LEFT JOIN mooring.devices d ON d.id = u.device
  LEFT JOIN mooring.tokens t ON t.id = u.token
 WHERE d.id IS NULL OR d.disabled
    OR u.token IS NOT NULL AND (t.id IS NULL OR t.revoked_at IS NOT NULL OR t.expires_at <= now())`

// checkSessions asks about the sessions that which yields.
func (r *Registry) checkSessions(ctx context.Context, which func(yield func(id int64, device Device))) error {
	var sessions []int64
	var devices []int32
	var tokens []*int64
	which(func(id int64, device Device) {
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
	rows, err := r.pool.Query(ctx, findRevoked, sessions, devices, tokens)
	if err != nil {
		return err
	}
	var session int64
	var revocation Revocation
	_, err = pgx.ForEachRow(rows, []any{&session, &revocation.DeviceID, &revocation.TokenID, &revocation.Disabled}, func() error {
		r.cache.forgetDevice(revocation.DeviceID)
		if r.book.revokeSession(session, revocation) {
			r.announce(revocation)
		}
		return nil
	})
	return err
}
