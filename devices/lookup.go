package devices

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// maxLookup credentials are asked for in one query: at 32 bytes each it
	// still fits into few packets, and answers come in a few milliseconds.
	maxLookup = 2048
	// A query waits for company: briefly when there was little of it last time,
	// longer in a storm, when nobody notices.
	minCompany = time.Millisecond
	maxCompany = 20 * time.Millisecond
	perCompany = 50 * time.Microsecond
)

// question is one credential that waits for a query, and whoever waits for it.
type question struct {
	key         credentialKey
	certificate string        // the device that it names; empty: a token
	serial      string        // of the certificate
	done        chan struct{} // closed when answer and err are set
	answer      answer
	err         error // the question could not be asked
	known       bool  // the answer came before the question did
}

// lookups gathers questions into queries, one query at a time. Callers with the
// same credential share a question, as long as its query has not been sent:
// joining one under way could answer with what was true before the call.
type lookups struct {
	pool    *pgxpool.Pool
	cache   *cache
	metrics *metrics
	health  *health // nil: nobody asks
	wait    time.Duration
	max     int // waiting questions

	mu     sync.Mutex
	closed bool
	byKey  map[credentialKey]*question
	queue  []*question
	wake   chan struct{} // capacity 1
}

func newLookups(pool *pgxpool.Pool, cache *cache, metrics *metrics, wait time.Duration, limit int) *lookups {
	return &lookups{
		pool: pool, cache: cache, metrics: metrics, wait: wait, max: limit,
		byKey: make(map[credentialKey]*question), wake: make(chan struct{}, 1),
	}
}

// ask waits for the answer, but no longer than l.wait.
func (l *lookups) ask(ctx context.Context, key credentialKey, certificate, serial string) (answer, error) {
	q, err := l.enqueue(key, certificate, serial)
	switch {
	case err != nil:
		return answer{}, err
	case q.known:
		return q.answer, nil
	}
	timer := time.NewTimer(l.wait)
	defer timer.Stop()
	select {
	case <-q.done:
		return q.answer, q.err
	case <-ctx.Done():
		return answer{}, ctx.Err()
	case <-timer.C:
		return answer{}, fmt.Errorf("ask for a credential: no answer within %v", l.wait)
	}
}

func (l *lookups) enqueue(key credentialKey, certificate, serial string) (*question, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	if q, ok := l.byKey[key]; ok {
		return q, nil
	}
	// Learnt since its caller looked. Here, while nobody else can ask, so that one
	// credential is asked for twice at most: by the query that is under way and by the
	// next one.
	if found, ok := l.cache.get(key, time.Now()); ok {
		return &question{answer: answer{device: found.device, err: found.err}, known: true}, nil
	}
	if len(l.queue) >= l.max {
		return nil, ErrBusy
	}
	q := &question{key: key, certificate: certificate, serial: serial, done: make(chan struct{})}
	l.byKey[key] = q
	l.queue = append(l.queue, q)
	signal(l.wake)
	return q, nil
}

// take removes up to maxLookup questions from the queue.
func (l *lookups) take() []*question {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch := l.queue[:min(len(l.queue), maxLookup)]
	l.queue = l.queue[len(batch):]
	if len(l.queue) == 0 {
		l.queue = nil // lets go of the array after a storm
	} else {
		signal(l.wake)
	}
	for _, q := range batch {
		delete(l.byKey, q.key)
	}
	return batch
}

func (l *lookups) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue)
}

// run asks until stop ends; operations ends queries that are under way.
func (l *lookups) run(stop, operations context.Context) {
	defer l.close()
	last := 0 // questions in the last query
	for {
		select {
		case <-stop.Done():
			return
		case <-l.wake:
		}
		if l.waiting() < maxLookup {
			company := min(max(time.Duration(last)*perCompany, minCompany), maxCompany)
			select {
			case <-stop.Done():
				return
			case <-time.After(company):
			}
		}
		batch := l.take()
		if last = len(batch); last > 0 {
			l.answer(operations, batch)
		}
	}
}

// close refuses everybody who waits and everybody who comes.
func (l *lookups) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, q := range l.queue {
		q.err = ErrClosed
		close(q.done)
	}
	l.queue, l.byKey = nil, nil
}

// answer asks Postgres for a batch and wakes those who wait for it.
func (l *lookups) answer(ctx context.Context, batch []*question) {
	l.metrics.lookupBatch.Observe(float64(len(batch)))
	ctx, cancel := context.WithTimeout(withPurpose(ctx, "authenticate"), l.wait)
	defer cancel()

	l.cache.begin()
	found := make(map[credentialKey]answer, len(batch))
	err := l.query(ctx, batch, found)
	if l.health != nil {
		l.health.saw(err, time.Now())
	}
	keys, answers := make([]credentialKey, len(batch)), make([]answer, len(batch))
	for i, q := range batch {
		if err != nil {
			q.err = fmt.Errorf("ask for a credential: %w", err)
			continue
		}
		a, ok := found[q.key]
		if !ok {
			a.err = ErrUnauthenticated
		}
		keys[i], answers[i], q.answer = q.key, a, a
	}
	if err == nil {
		// Before anybody is woken: whoever asks again finds the answer.
		l.cache.finish(keys, answers)
	}
	for _, q := range batch {
		close(q.done)
	}
}

func (l *lookups) query(ctx context.Context, batch []*question, found map[credentialKey]answer) error {
	var hashes [][]byte
	var names, serials []string
	for _, q := range batch {
		if q.certificate == "" {
			hashes = append(hashes, q.key[:])
		} else {
			names, serials = append(names, q.certificate), append(serials, q.serial)
		}
	}
	if len(hashes) > 0 {
		if err := l.queryTokens(ctx, hashes, found); err != nil {
			return err
		}
	}
	if len(names) > 0 {
		return l.queryCertificates(ctx, names, serials, found)
	}
	return nil
}

// quotas are a device's rates as Device has them: NULL is 0, and 0 is no limit.
const quotas = `CASE WHEN d.rows_per_second = 0 THEN -1 ELSE COALESCE(d.rows_per_second, 0) END,
       CASE WHEN d.bytes_per_second = 0 THEN -1 ELSE COALESCE(d.bytes_per_second, 0) END`

// The remaining lifetime is computed by the database, so that a difference
// between its clock and this server's does not matter.
const findByHash = `
SELECT t.hash, t.id, d.id, d.name, d.disabled, ` + quotas + `,
       CASE WHEN isfinite(t.expires_at) THEN extract(epoch FROM t.expires_at - now())::float8 END
  FROM mooring.tokens t
  JOIN mooring.devices d ON d.id = t.device_id
 WHERE t.hash = ANY ($1)
   AND t.revoked_at IS NULL
   AND (t.expires_at IS NULL OR t.expires_at > now())`

func (l *lookups) queryTokens(ctx context.Context, hashes [][]byte, found map[credentialKey]answer) error {
	rows, err := l.pool.Query(ctx, findByHash, hashes)
	if err != nil {
		return err
	}
	var (
		hash     []byte
		a        answer
		disabled bool
		seconds  *float64
	)
	_, err = pgx.ForEachRow(rows, []any{&hash, &a.device.TokenID, &a.device.ID, &a.device.Name, &disabled, &a.device.RowRate, &a.device.ByteRate, &seconds}, func() error {
		a.err, a.lives = nil, 0
		if disabled {
			a.err = ErrDisabled
		}
		if seconds != nil {
			// A year is longer than anything is remembered, and no overflow.
			a.lives = time.Duration(min(*seconds, 365*24*3600) * float64(time.Second))
		}
		found[credentialKey(hash)] = a
		return nil
	})
	return err
}

// findByName asks for the devices that certificates name, unless those are
// revoked.
const findByName = `
SELECT u.serial, d.id, d.name, d.disabled, ` + quotas + `
  FROM unnest($1::text[], $2::text[]) AS u (name, serial)
  JOIN mooring.devices d ON d.name = u.name
 WHERE NOT EXISTS (SELECT FROM mooring.revoked_certificates c WHERE c.name = u.name AND c.serial = u.serial)`

func (l *lookups) queryCertificates(ctx context.Context, names, serials []string, found map[credentialKey]answer) error {
	rows, err := l.pool.Query(ctx, findByName, names, serials)
	if err != nil {
		return err
	}
	var a answer
	var serial string
	var disabled bool
	_, err = pgx.ForEachRow(rows, []any{&serial, &a.device.ID, &a.device.Name, &disabled, &a.device.RowRate, &a.device.ByteRate}, func() error {
		a.err = nil
		if disabled {
			a.err = ErrDisabled
		}
		found[certificateKey(a.device.Name, serial)] = a
		return nil
	})
	return err
}

// signal wakes the reader of a channel of capacity 1; it never blocks.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
