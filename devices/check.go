package devices

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// checkTick is how soon a revocation is repeated whose session is still open,
// and a failed check is tried again.
const checkTick = time.Second

// runChecks ends sessions whose credential is no longer good, and those that a newer
// one on another gateway has replaced. It asks Postgres about sessions that a
// notification casts doubt on; about each once in CheckEvery, in shares, for expiry
// tells nobody; and about all of them after the listener was deaf. And it
// repeats revocations that a gateway did not act on, which happens when one
// arrives between the opening of a session and its entry in the gateway's books.
func (r *Registry) runChecks(stop, operations context.Context) {
	r.watchSessions(stop, func(which sessions, replaced bool) error {
		return r.checkSessions(operations, which, replaced)
	})
}

// sessions calls yield for each of some sessions.
type sessions = func(yield func(id int64))

// watchSessions is runChecks with the asking left to check, until stop ends.
func (r *Registry) watchSessions(stop context.Context, check func(which sessions, replaced bool) error) {
	ticker := time.NewTicker(checkTick)
	defer ticker.Stop()
	all := false    // sessions must be asked about now
	missed := false // news, so that they must be in every respect
	for {
		select {
		case <-stop.Done():
			return
		case <-r.suspected:
		case <-r.recheck:
			all, missed = true, true
		case <-ticker.C:
			for _, revocation := range r.book.overdue() {
				r.announce(revocation)
			}
		}
		doubted := true
		err := check(r.book.takeSuspects, true)
		switch {
		case err != nil:
		case all:
			doubted, err = missed, check(r.book.live, missed)
		default:
			doubted, err = false, check(r.takeDue, false)
		}
		if err != nil {
			r.config.Logger.Warn("can't check the credentials of open sessions; trying again", "error", err)
			all, missed = true, missed || doubted // all of them, at the next tick
			continue
		}
		all, missed = false, false
	}
}

func (r *Registry) takeDue(yield func(id int64)) { r.book.takeDue(time.Now(), yield) }

// maxCheck sessions are asked about by one statement: what it is made of is kept
// as a buffer by the connection, and is garbage of this size.
const maxCheck = 1024

// findRevoked finds sessions whose credential is no longer good, token 0: none, and
// those that are replaced, if $7 asks for it. A session that is not on record, or is
// another device's there, counts as replaced: a standby that took over, or a database
// that was restored, lacks it, and only a new one gets the device on record (decision 149).
const findRevoked = `
SELECT u.session, u.device,
       CASE WHEN v.gone OR NOT v.void THEN 0 ELSE u.token END,
       CASE WHEN v.gone OR NOT v.void THEN '' ELSE u.serial END,
       COALESCE(d.disabled, false),
       CASE WHEN v.gone OR v.void THEN 0 ELSE u.session END
  FROM unnest($1::int8[], $2::int4[], $3::int8[], $4::text[], $5::text[], $6::int8[]) AS u (session, device, token, name, serial, expires)
  LEFT JOIN mooring.devices d ON d.id = u.device
  LEFT JOIN mooring.tokens t ON t.id = u.token
  LEFT JOIN mooring.sessions s ON $7 AND s.id = u.session AND s.device_id = u.device
 CROSS JOIN LATERAL (
       SELECT d.id IS NULL OR d.disabled AS gone,
              COALESCE(u.token <> 0 AND (t.id IS NULL OR t.revoked_at IS NOT NULL OR t.expires_at <= now())
                    OR u.serial <> '' AND (d.name <> u.name OR u.expires > 0 AND u.expires <= extract(epoch FROM now())
                       OR EXISTS (SELECT FROM mooring.revoked_certificates c WHERE c.name = u.name AND c.serial = u.serial)), false) AS void) v
 WHERE v.gone OR v.void OR s.replaced_at IS NOT NULL OR $7 AND s.id IS NULL`

// checked is what a statement asks with, column by column.
type checked struct {
	sessions        []int64
	devices         []int32
	tokens, expires []int64
	names, serials  []string
}

func (c *checked) add(id int64, device *Device) {
	c.sessions, c.devices = append(c.sessions, id), append(c.devices, device.ID)
	c.tokens, c.expires = append(c.tokens, device.TokenID), append(c.expires, device.Expires)
	c.names, c.serials = append(c.names, device.Name), append(c.serials, device.Serial)
}

func (c *checked) clear() {
	c.sessions, c.devices, c.tokens, c.expires = c.sessions[:0], c.devices[:0], c.tokens[:0], c.expires[:0]
	c.names, c.serials = c.names[:0], c.serials[:0]
}

// checkSessions asks about the credentials of the sessions that which yields, and
// whether they are replaced, if asked to: nothing but news makes a session so.
func (r *Registry) checkSessions(ctx context.Context, which sessions, replaced bool) error {
	var ids []int64
	which(func(id int64) { ids = append(ids, id) })
	var asked checked
	for some := range slices.Chunk(ids, maxCheck) {
		asked.clear()
		r.book.look(some, asked.add)
		if err := r.checkSome(ctx, &asked, replaced); err != nil {
			return err
		}
	}
	return nil
}

func (r *Registry) checkSome(ctx context.Context, asked *checked, replaced bool) error {
	if len(asked.sessions) == 0 { // they have ended meanwhile
		return nil
	}
	ctx, cancel := context.WithTimeout(withPurpose(ctx, "check sessions"), r.config.Wait)
	defer cancel()
	rows, err := r.pool.Query(ctx, findRevoked, asked.sessions, asked.devices, asked.tokens, asked.names, asked.serials, asked.expires, replaced)
	if err != nil {
		return err
	}
	var session int64
	var revocation Revocation
	_, err = pgx.ForEachRow(rows, []any{&session, &revocation.DeviceID, &revocation.TokenID, &revocation.Serial, &revocation.Disabled, &revocation.Replaced}, func() error {
		if revocation.Replaced == 0 {
			r.cache.forgetDevice(revocation.DeviceID)
		}
		if r.book.revokeSession(session, revocation) {
			r.announce(revocation)
		}
		return nil
	})
	return err
}
