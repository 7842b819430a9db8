package devices

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// maxOpenings sessions are opened by one statement.
	maxOpenings = 1024
	// An opening whose outcome is unknown may have been committed; its row is
	// looked for this long, since the server may still have been at it.
	strayFor   = time.Minute
	strayEvery = 5 * time.Second
)

// opening is a session that waits for its row.
type opening struct {
	start     SessionStart
	done      chan struct{} // closed when info and err are set
	info      SessionInfo
	err       error
	abandoned bool // nobody waits any more
	suspect   bool // its credential may have changed while it waited
}

// openings commits sessions in groups: whatever gathered while the last
// statement was under way. One statement at a time, in the order of the calls,
// so that session numbers of a device are in that order.
type openings struct {
	max int

	mu       sync.Mutex
	closed   bool
	queue    []*opening
	byDevice map[int32][]*opening // queued or under way
	wake     chan struct{}        // capacity 1
}

func newOpenings(limit int) *openings {
	return &openings{max: limit, byDevice: make(map[int32][]*opening), wake: make(chan struct{}, 1)}
}

// OpenSession records a new session and returns when the record is committed.
// Session numbers rise per device over all gateways, in the order of the calls
// within one. It answers ErrUnauthenticated or ErrDisabled if the credential
// was revoked since Authenticate; any other error may pass.
//
// Once it returns, the caller owes an EndSession. If ctx ends first, it does not.
func (r *Registry) OpenSession(ctx context.Context, start SessionStart) (SessionInfo, error) {
	o := &opening{start: start, done: make(chan struct{})}
	if err := r.openings.enqueue(o); err != nil {
		return SessionInfo{}, err
	}
	timer := time.NewTimer(r.config.Wait)
	defer timer.Stop()
	var err error
	select {
	case <-o.done:
		return o.info, o.err
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = fmt.Errorf("open a session: no answer within %v", r.config.Wait)
	}
	if r.openings.abandon(o) {
		return SessionInfo{}, err
	}
	return o.info, o.err // it was done in this very moment
}

func (q *openings) enqueue(o *opening) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return ErrClosed
	case len(q.queue) >= q.max:
		return ErrBusy
	}
	q.queue = append(q.queue, o)
	q.byDevice[o.start.Device.ID] = append(q.byDevice[o.start.Device.ID], o)
	signal(q.wake)
	return nil
}

// abandon says that nobody waits for o any more; false if it is done already.
func (q *openings) abandon(o *opening) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-o.done:
		return false
	default:
		o.abandoned = true
		return true
	}
}

// take removes up to maxOpenings from the queue, and drops abandoned ones.
func (q *openings) take() []*opening {
	q.mu.Lock()
	defer q.mu.Unlock()
	var batch []*opening
	n := 0
	for ; n < len(q.queue) && len(batch) < maxOpenings; n++ {
		if o := q.queue[n]; o.abandoned {
			q.forget(o)
		} else {
			batch = append(batch, o)
		}
	}
	q.queue = q.queue[n:]
	if len(q.queue) == 0 {
		q.queue = nil
	} else {
		signal(q.wake)
	}
	return batch
}

// forget removes o from byDevice; called under mu.
func (q *openings) forget(o *opening) {
	device := o.start.Device.ID
	list := q.byDevice[device]
	if at := slices.Index(list, o); at >= 0 {
		list = slices.Delete(list, at, at+1)
	}
	if len(list) == 0 {
		delete(q.byDevice, device)
	} else {
		q.byDevice[device] = list
	}
}

// suspect marks the device's openings: their statement may have seen the
// credential as it was before.
func (q *openings) suspect(device int32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, o := range q.byDevice[device] {
		o.suspect = true
	}
}

// close refuses everybody who waits and everybody who comes.
func (q *openings) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, o := range q.queue {
		o.err = ErrClosed
		close(o.done)
	}
	q.queue = nil
}

// runOpenings opens sessions until stop ends; operations ends statements that
// are under way.
func (r *Registry) runOpenings(stop, operations context.Context) {
	defer r.openings.close()
	strays := time.NewTicker(strayEvery)
	defer strays.Stop()
	var straysUntil time.Time
	for {
		select {
		case <-stop.Done():
			return
		case <-strays.C:
			if time.Now().Before(straysUntil) {
				r.closeStrays(operations)
			}
		case <-r.openings.wake:
			if batch := r.openings.take(); len(batch) > 0 && !r.openBatch(operations, batch) {
				straysUntil = time.Now().Add(strayFor)
			}
		}
	}
}

// opened is what the statement says of one opening.
type opened struct {
	id      int64
	verdict int // 0: opened
	next    *int64
}

// The verdicts of openSessions.
const (
	verdictOpened = iota
	verdictNoCredential
	verdictDisabled
)

// openSessions numbers the sessions in the order of the arrays. The previous
// progress is looked for in the device's last few sessions only: a device that
// reconnected more often than that since it last sent something has the hint in
// none of them worth having.
const openSessions = `
WITH input AS MATERIALIZED (
    SELECT u.*, nextval('mooring.session_number') AS id
      FROM unnest($3::int4[], $4::int8[], $5::text[], $6::int8[], $7::text[], $8::text[], $9::timestamptz[], $10::text[], $11::text[])
           WITH ORDINALITY AS u (device, token, remote, boot, model, firmware, connected, name, serial, position)
), checked AS MATERIALIZED (
    SELECT i.*,
           CASE WHEN d.id IS NULL THEN 1
                WHEN d.disabled THEN 2
                WHEN i.serial <> '' AND (d.name <> i.name
                     OR EXISTS (SELECT FROM mooring.revoked_certificates c WHERE c.name = i.name AND c.serial = i.serial)) THEN 1
                WHEN i.token IS NULL THEN 0
                WHEN t.id IS NULL OR t.revoked_at IS NOT NULL OR t.expires_at <= now() THEN 1
                ELSE 0 END AS verdict
      FROM input i
      LEFT JOIN mooring.devices d ON d.id = i.device
      LEFT JOIN mooring.tokens t ON t.id = i.token AND t.device_id = i.device
), opened AS (
    INSERT INTO mooring.sessions (id, device_id, token_id, gateway, incarnation, remote, boot_id, model, firmware, connected_at, last_seen_at, booked, certificate)
    SELECT id, device, token, $1, $2, remote, boot, model, firmware, LEAST(connected, now()), connected, true, NULLIF(serial, '')
      FROM checked WHERE verdict = 0
)
SELECT c.position, c.id, c.verdict,
       (SELECT p.next_seq
          FROM (SELECT s.id, s.boot_id, s.next_seq FROM mooring.sessions s
                 WHERE s.device_id = c.device ORDER BY s.id DESC LIMIT 16) p
         WHERE p.boot_id = c.boot AND p.next_seq IS NOT NULL
         ORDER BY p.id DESC LIMIT 1)
  FROM checked c`

// openBatch opens the sessions of a batch and wakes their callers. It returns
// false if the statement may have been committed although it failed.
func (r *Registry) openBatch(ctx context.Context, batch []*opening) bool {
	ctx, cancel := context.WithTimeout(withPurpose(ctx, "open sessions"), r.config.Wait)
	defer cancel()
	results, err := r.insertSessions(ctx, batch)
	r.health.saw(err, time.Now())
	var refused *pgconn.PgError
	if errors.As(err, &refused) && (refused.Code == "23503" || refused.Code == "40P01") {
		// A device was removed between the check and the insertion, which the
		// next check sees; or another server wrote ends of the same devices'
		// sessions in another order, and has done so now.
		results, err = r.insertSessions(ctx, batch)
	}
	if err != nil {
		err = fmt.Errorf("open a session: %w", err)
		r.openings.finish(batch, func(_ int, o *opening) { o.err = err })
		return pgconn.SafeToRetry(err)
	}
	count := 0
	r.openings.finish(batch, func(i int, o *opening) {
		switch results[i].verdict {
		case verdictOpened:
			count++
			r.settle(o, results[i])
		case verdictDisabled:
			o.err = ErrDisabled
		default:
			o.err = ErrUnauthenticated
		}
	})
	r.metrics.sessionsOpened.Add(float64(count))
	return true
}

// settle enters an opened session into the book, and ends it at once if nobody
// waits for it any more. It is called under openings.mu: news of a changed
// credential finds the session either waiting or in the book.
func (r *Registry) settle(o *opening, result opened) {
	o.info.Session = result.id
	if o.start.BootID != 0 {
		if result.next != nil {
			o.info.Next, o.info.HasNext = uint64(*result.next), true
		}
		// What this gateway knows may be newer than what it has written.
		if next, ok := r.book.hint(o.start.Device.ID, o.start.BootID); ok {
			o.info.Next, o.info.HasNext = max(next, o.info.Next), true
		}
	}
	r.book.open(result.id, &o.start)
	if o.suspect {
		r.suspectSessions(o.start.Device.ID)
	}
	if o.abandoned {
		r.EndSession(SessionEnd{
			SessionProgress: SessionProgress{Session: result.id},
			Disconnected:    time.Now(), Reason: "the connection was gone before the session was recorded",
		})
	}
}

// finish gives every opening its outcome and wakes its caller.
func (q *openings) finish(batch []*opening, outcome func(i int, o *opening)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, o := range batch {
		outcome(i, o)
		q.forget(o)
		close(o.done)
	}
}

func (r *Registry) insertSessions(ctx context.Context, batch []*opening) ([]opened, error) {
	n := len(batch)
	var (
		device    = make([]int32, n)
		token     = make([]*int64, n)
		remote    = make([]string, n)
		boot      = make([]*int64, n)
		model     = make([]string, n)
		firmware  = make([]string, n)
		connected = make([]time.Time, n)
		name      = make([]string, n)
		serial    = make([]string, n)
	)
	for i, o := range batch {
		device[i], connected[i] = o.start.Device.ID, o.start.Connected
		name[i], serial[i] = o.start.Device.Name, o.start.Device.Serial
		if id := o.start.Device.TokenID; id != 0 {
			token[i] = &id
		}
		if o.start.BootID != 0 {
			id := int64(o.start.BootID)
			boot[i] = &id
		}
		// One NUL or stray byte would fail the whole batch.
		remote[i], model[i], firmware[i] = storable(o.start.Remote), storable(o.start.Model), storable(o.start.Firmware)
	}
	rows, err := r.pool.Query(ctx, openSessions, r.config.Gateway, r.incarnation, device, token, remote, boot, model, firmware, connected, name, serial)
	if err != nil {
		return nil, err
	}
	results := make([]opened, n)
	var position, seen int
	var result opened
	_, err = pgx.ForEachRow(rows, []any{&position, &result.id, &result.verdict, &result.next}, func() error {
		results[position-1] = result
		seen++
		return nil
	})
	if err == nil && seen != n {
		return nil, fmt.Errorf("%d sessions asked for, %d answered", n, seen)
	}
	return results, err
}

// closeStrays closes rows of this gateway that it knows nothing of: their
// commit went through although the connection broke. No opening is under way.
func (r *Registry) closeStrays(ctx context.Context) {
	ctx, cancel := context.WithTimeout(withPurpose(ctx, "close strays"), r.config.Wait)
	defer cancel()
	tag, err := r.pool.Exec(ctx, `
UPDATE mooring.sessions
   SET disconnected_at = last_seen_at, reason = 'the database did not confirm the session'
 WHERE incarnation = $1 AND disconnected_at IS NULL AND id <> ALL ($2)`, r.incarnation, r.book.all())
	switch {
	case err != nil:
		r.config.Logger.Debug("can't look for sessions without an owner", "error", err)
	case tag.RowsAffected() > 0:
		r.config.Logger.Info("closed sessions whose opening was not confirmed", "sessions", tag.RowsAffected())
	}
}
