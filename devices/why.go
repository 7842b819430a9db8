package devices

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"mooring/wire"
)

// Refusal is a row of mooring.rejects: what was refused of a device's data.
type Refusal struct {
	At      time.Time
	Code    string // in words, as TIME_PAST
	Channel string // empty: whole rows
	Seq, N  int64
	Detail  string
}

// RefusedHandshake is a reason for which a device was not let in.
type RefusedHandshake struct {
	Reason  string // revoked, expired, disabled, …: see mooring.refused_handshakes
	Times   int64
	First   time.Time
	Last    time.Time
	Gateway string
	Remote  string
}

// Throttle is a session that was told to slow down.
type Throttle struct {
	Session int64
	Times   int64
	Last    time.Time
	Gap     time.Duration // between frames, that it was asked for last
	For     time.Duration
}

// Why is what the database knows of why a device is refused, closed or throttled.
type Why struct {
	Detail
	Recent     []SessionRow       // newest first
	Refusals   []Refusal          // newest first
	Handshakes []RefusedHandshake // latest first
	Throttles  []Throttle         // of its last hundred sessions, newest first
	Quota      Quota              // its own; the server's for all is known to servers alone
	Revoked    []string           // serial numbers of its certificates that are none any more
	Now        time.Time          // by the database
}

// Why reads up to limit sessions and refusals of a device.
func (a *Admin) Why(ctx context.Context, name string, limit int) (Why, error) {
	var why Why
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, a.pool, snapshot, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, listed+` WHERE d.name = $1`, name).Scan(why.columns()...); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT now()`).Scan(&why.Now); err != nil {
			return err
		}
		if err := why.readTokens(ctx, tx); err != nil {
			return err
		}
		if err := why.readSessions(ctx, tx); err != nil {
			return err
		}
		return why.read(ctx, tx, limit)
	})
	if err != nil {
		return Why{}, explain("explain", name, err)
	}
	return why, nil
}

func (w *Why) read(ctx context.Context, tx pgx.Tx, limit int) error {
	err := tx.QueryRow(ctx, `
SELECT rows_per_second, bytes_per_second,
       ARRAY(SELECT c.serial FROM mooring.revoked_certificates c WHERE c.name = d.name ORDER BY c.revoked_at DESC LIMIT $2)
  FROM mooring.devices d WHERE id = $1`, w.ID, limit).Scan(&w.Quota.Rows, &w.Quota.Bytes, &w.Revoked)
	if err != nil {
		return err
	}
	rows, err := tx.Query(ctx, `
SELECT id, COALESCE(token_id, 0), gateway, COALESCE(remote, ''), COALESCE(model, ''), COALESCE(firmware, ''),
       connected_at, last_seen_at, COALESCE(disconnected_at, '0001-01-01 00:00:00+00'), COALESCE(close_code, 0), COALESCE(reason, '')
  FROM mooring.sessions WHERE device_id = $1 ORDER BY id DESC LIMIT $2`, w.ID, limit)
	if err != nil {
		return err
	}
	w.Recent, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (SessionRow, error) {
		var s SessionRow
		return s, row.Scan(&s.ID, &s.TokenID, &s.Gateway, &s.Remote, &s.Model, &s.Firmware,
			&s.Connected, &s.LastSeen, &s.Disconnected, &s.Code, &s.Reason)
	})
	if err != nil {
		return err
	}
	rows, err = tx.Query(ctx, `
SELECT at, code, COALESCE(channel, ''), seq, n, detail FROM mooring.rejects
 WHERE device_id = $1 ORDER BY at DESC, id DESC LIMIT $2`, w.ID, limit)
	if err != nil {
		return err
	}
	if w.Refusals, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Refusal]); err != nil {
		return err
	}
	rows, err = tx.Query(ctx, `
SELECT reason, times, first_at, last_at, gateway, COALESCE(remote, '') FROM mooring.refused_handshakes
 WHERE device_id = $1 ORDER BY last_at DESC LIMIT $2`, w.ID, limit)
	if err != nil {
		return err
	}
	if w.Handshakes, err = pgx.CollectRows(rows, pgx.RowToStructByPos[RefusedHandshake]); err != nil {
		return err
	}
	return w.readThrottles(ctx, tx, limit)
}

func (w *Why) readThrottles(ctx context.Context, tx pgx.Tx, limit int) error {
	rows, err := tx.Query(ctx, `
SELECT id, throttles, throttled_at, throttle_gap_ms, throttle_for_s
  FROM (SELECT * FROM mooring.sessions WHERE device_id = $1 ORDER BY id DESC LIMIT 100) s
 WHERE throttles > 0 ORDER BY id DESC LIMIT $2`, w.ID, limit)
	if err != nil {
		return err
	}
	w.Throttles, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Throttle, error) {
		var t Throttle
		var gap, seconds int32
		err := row.Scan(&t.Session, &t.Times, &t.Last, &gap, &seconds)
		t.Gap, t.For = time.Duration(gap)*time.Millisecond, time.Duration(seconds)*time.Second
		return t, err
	})
	return err
}

// Verdict is what matters most in a sentence, and what to do about it; advice is
// empty if there is nothing to do.
func (w *Why) Verdict() (sentence, advice string) {
	when := func(t time.Time) string { return t.Local().Format(time.DateTime) }
	var last *SessionRow
	if len(w.Recent) > 0 {
		last = &w.Recent[0]
	}
	live := false
	for i := range w.Tokens {
		live = live || w.Tokens[i].Live
	}
	switch {
	case w.Disabled:
		return "disabled: every attempt is refused with HTTP 403 or closed with 4502 DISABLED", "mooring device enable " + w.Name
	case w.Online:
		sentence = fmt.Sprintf("online since %s, from %s", when(last.Connected), last.Remote)
		if n := w.ended(time.Hour); n >= 3 {
			code := w.Recent[1].Code
			return sentence + fmt.Sprintf("; but at least %d sessions ended in the last hour, the last with %s", n, codeText(code, w.Recent[1].Reason)), codeAdvice[code]
		}
		if len(w.Refusals) > 0 && w.Refusals[0].Code == wire.CodeQuota.String() && w.Now.Sub(w.Refusals[0].At) < time.Hour {
			return sentence + "; but throttled: it sends more than its quota, last refused at " + when(w.Refusals[0].At),
				"mooring device quota " + w.Name + " raises it; or have the device send less"
		}
		if len(w.Throttles) > 0 && w.Throttles[0].Session == last.ID && w.Now.Sub(w.Throttles[0].Last) < time.Hour {
			t := w.Throttles[0]
			return sentence + fmt.Sprintf("; but told to slow down, last at %s: it sends more than its quota (THROTTLE, a gap of %v for %v)", when(t.Last), t.Gap, t.For),
				"nothing if it heeds that; mooring device quota " + w.Name + " raises the quota"
		}
		if len(w.Refusals) > 0 && w.Now.Sub(w.Refusals[0].At) < time.Hour {
			return sentence + fmt.Sprintf("; but what it sends is refused, last at %s: %s", when(w.Refusals[0].At), w.Refusals[0].Detail),
				"the refusals below say which channel and why"
		}
		return sentence, ""
	case len(w.Handshakes) > 0 && (last == nil || w.Handshakes[0].Last.After(last.Disconnected)):
		h := w.Handshakes[0]
		return fmt.Sprintf("not let in, last at %s from %s: %s", when(h.Last), h.Remote, HandshakeReason(h.Reason)), handshakeAdvice[h.Reason]
	case !live && (last == nil || last.TokenID != 0):
		return "it has no good token: all are revoked or expired", "mooring device rotate " + w.Name + ", and give the device the new token"
	case last == nil:
		return "never connected, and no attempt of it was refused", "look whether the device reaches the server at all: address, port, TLS, clock"
	case last.Disconnected.IsZero():
		return fmt.Sprintf("its server %s is gone; last heard of the device at %s", last.Gateway, when(last.LastSeen)),
			"start the server; the device comes back by itself"
	default:
		return fmt.Sprintf("offline; last closed at %s with %s", when(last.Disconnected), codeText(last.Code, last.Reason)), codeAdvice[last.Code]
	}
}

// ended counts the sessions that ended lately, as far as they were read.
func (w *Why) ended(lately time.Duration) (n int) {
	for i := range w.Recent {
		if end := w.Recent[i].Disconnected; !end.IsZero() && w.Now.Sub(end) < lately {
			n++
		}
	}
	return n
}
