package devices

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// maxRefusedKeys different refused credentials are remembered between two
// writes; what comes beyond is counted in the metrics alone.
const maxRefusedKeys = 4096

// refusedKey is a credential that was refused, as far as it can tell whose it is.
type refusedKey struct {
	hash credentialKey // of a token; zero: none, or one that can't be any
	name string        // that it was shown under; empty: none
	cert bool          // name is a certificate's
}

// refusedCount is how often, and when.
type refusedCount struct {
	times       int64
	first, last time.Time
	remote      string
}

// refusedLog gathers refused handshakes. Whose they were, and why, is found out
// when they are written: a revoked token still says whose it was. A flood of
// them costs one statement every few seconds.
type refusedLog struct {
	mu     sync.Mutex
	counts map[refusedKey]refusedCount
}

// note counts a refusal; false: there was no room.
func (l *refusedLog) note(shown *Credential, now time.Time) bool {
	key := refusedKey{name: shown.Name}
	switch {
	case shown.Token == "":
		key.name, key.cert = shown.Certificate, true
	case len(shown.Token) <= maxToken && looksLikeToken(shown.Token):
		key.hash = tokenKey(shown.Token)
	}
	if key.name != "" && CheckName(key.name) != nil {
		key.name = ""
	}
	if key == (refusedKey{}) {
		return true // nobody's
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	count, known := l.counts[key]
	if !known && len(l.counts) >= maxRefusedKeys {
		return false
	}
	if !known {
		count.first = now
	}
	count.times++
	count.last, count.remote = now, shown.Remote
	if l.counts == nil {
		l.counts = make(map[refusedKey]refusedCount)
	}
	l.counts[key] = count
	return true
}

func (l *refusedLog) take() map[refusedKey]refusedCount {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := l.counts
	l.counts = nil
	return counts
}

// Authenticate says whose credential it is. It answers ErrUnauthenticated,
// ErrDisabled, ErrAway, or another error that may pass: then Postgres could not
// be asked within Config.Wait. What is in memory is answered without waiting and
// without allocating. Refusals of devices that are known are recorded in
// mooring.refused_handshakes.
func (r *Registry) Authenticate(ctx context.Context, shown Credential) (Device, error) {
	now := time.Now()
	if r.health.away(now) {
		return Device{}, ErrAway
	}
	device, err := r.authenticate(ctx, shown)
	if err != nil && (errors.Is(err, ErrUnauthenticated) || errors.Is(err, ErrDisabled)) && !r.refused.note(&shown, now) {
		r.metrics.refusedDropped.Inc()
	}
	return device, err
}

// recordRefused says of each refused credential whose it is and why it is not
// good. Credentials that are nobody's are left out.
const recordRefused = `
INSERT INTO mooring.refused_handshakes AS r (device_id, reason, times, first_at, last_at, gateway, remote)
SELECT device, reason, sum(times), min(first_at), max(last_at), $1, (array_agg(remote ORDER BY last_at DESC))[1]
  FROM (SELECT COALESCE(t.device_id, n.id) AS device,
               CASE WHEN t.revoked_at IS NOT NULL THEN 'revoked'
                    WHEN t.expires_at <= now() THEN 'expired'
                    WHEN t.id IS NOT NULL AND d.disabled OR t.id IS NULL AND u.cert AND n.disabled THEN 'disabled'
                    WHEN t.id IS NOT NULL AND u.name <> '' AND u.name <> d.name THEN 'other_name'
                    WHEN t.id IS NOT NULL THEN 'changed_since'
                    WHEN u.cert THEN 'certificate'
                    ELSE 'unknown_token' END AS reason,
               u.times, u.first_at, u.last_at, u.remote
          FROM unnest($2::bytea[], $3::text[], $4::bool[], $5::int8[], $6::timestamptz[], $7::timestamptz[], $8::text[])
               AS u (hash, name, cert, times, first_at, last_at, remote)
          LEFT JOIN mooring.tokens t ON t.hash = u.hash
          LEFT JOIN mooring.devices d ON d.id = t.device_id
          LEFT JOIN mooring.devices n ON n.name = u.name AND t.id IS NULL) found
 WHERE device IS NOT NULL
 GROUP BY device, reason ORDER BY device, reason
    ON CONFLICT (device_id, reason) DO UPDATE
   SET times = r.times + EXCLUDED.times, last_at = greatest(r.last_at, EXCLUDED.last_at),
       gateway = EXCLUDED.gateway, remote = EXCLUDED.remote`

// flushRefused writes what was gathered. What can't be written is given up: it
// is told to people, not to devices.
func (r *Registry) flushRefused(ctx context.Context) error {
	counts := r.refused.take()
	if len(counts) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(withPurpose(ctx, "record refused handshakes"), r.config.Wait)
	defer cancel()
	var (
		hashes      [][]byte
		names       []string
		certs       []bool
		times       []int64
		first, last []time.Time
		remotes     []string
	)
	for key, count := range counts {
		var hash []byte
		if key.hash != (credentialKey{}) {
			hash = key.hash[:]
		}
		hashes, names, certs = append(hashes, hash), append(names, key.name), append(certs, key.cert)
		times, first, last = append(times, count.times), append(first, count.first), append(last, count.last)
		remotes = append(remotes, storable(count.remote))
	}
	if _, err := r.pool.Exec(ctx, recordRefused, r.config.Gateway, hashes, names, certs, times, first, last, remotes); err != nil {
		r.metrics.refusedDropped.Add(float64(len(counts)))
		return fmt.Errorf("record refused handshakes: %w", err)
	}
	return nil
}
