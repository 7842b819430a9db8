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
       CASE WHEN d.id IS NULL OR d.disabled THEN '' ELSE u.serial END,
       COALESCE(d.disabled, false)
  FROM unnest($1::int8[], $2::int4[], $3::int8[], $4::text[], $5::text[], $6::int8[]) AS u (session, device, token, name, serial, expires)
  LEFT JOIN mooring.devices d ON d.id = u.device
  LEFT JOIN mooring.tokens t ON t.id = u.token
 WHERE d.id IS NULL OR d.disabled
    OR u.token IS NOT NULL AND (t.id IS NULL OR t.revoked_at IS NOT NULL OR t.expires_at <= now())
    OR u.serial <> '' AND (d.name <> u.name OR u.expires > 0 AND u.expires <= extract(epoch FROM now())
       OR EXISTS (SELECT FROM mooring.revoked_certificates c WHERE c.name = u.name AND c.serial = u.serial))`

// checkSessions asks about the sessions that which yields.
func (r *Registry) checkSessions(ctx context.Context, which func(yield func(id int64, device Device))) error {
	var sessions []int64
	var devices []int32
	var tokens []*int64
	var names, serials []string
	var expires []int64
	which(func(id int64, device Device) {
		sessions, devices = append(sessions, id), append(devices, device.ID)
		if device.TokenID != 0 {
			tokens = append(tokens, &device.TokenID)
		} else {
			tokens = append(tokens, nil)
		}
		names, serials, expires = append(names, device.Name), append(serials, device.Serial), append(expires, device.Expires)
	})
	if len(sessions) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(withPurpose(ctx, "check sessions"), r.config.Wait)
	defer cancel()
	rows, err := r.pool.Query(ctx, findRevoked, sessions, devices, tokens, names, serials, expires)
	if err != nil {
		return err
	}
	var session int64
	var revocation Revocation
	_, err = pgx.ForEachRow(rows, []any{&session, &revocation.DeviceID, &revocation.TokenID, &revocation.Serial, &revocation.Disabled}, func() error {
		r.cache.forgetDevice(revocation.DeviceID)
		if r.book.revokeSession(session, revocation) {
			r.announce(revocation)
		}
		return nil
	})
	return err
}
