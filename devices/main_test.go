package devices

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// patience is how long a test waits for what should happen soon; CI's machines are
// slow and busy.
const patience = time.Minute

// queryLog counts statements by purpose.
type queryLog struct {
	mu     sync.Mutex
	counts map[string]int
}

func (q *queryLog) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.counts == nil {
		q.counts = make(map[string]int)
	}
	q.counts[purposeOf(ctx)]++
	return ctx
}

func (q *queryLog) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (q *queryLog) count(purpose string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.counts[purpose]
}

// openRegistry opens a registry that the test's end closes.
func openRegistry(tb testing.TB, url string, change func(*Config)) *Registry {
	tb.Helper()
	config := Config{
		URL: url, Gateway: "gateway-1", Registerer: prometheus.NewRegistry(),
		Logger: slog.New(slog.NewTextHandler(tb.Output(), nil)),
		Wait:   patience,
	}
	if change != nil {
		change(&config)
	}
	r, err := Open(tb.Context(), config)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = r.Close(ctx) // a test that cares closes by itself
	})
	return r
}

func openAdmin(tb testing.TB, url string) *Admin {
	tb.Helper()
	a, err := OpenAdmin(tb.Context(), url)
	require.NoError(tb, err)
	tb.Cleanup(a.Close)
	return a
}

func add(tb testing.TB, a *Admin, name string) Added {
	tb.Helper()
	device, token, err := a.Add(tb.Context(), NewDevice{Name: name})
	require.NoError(tb, err)
	return Added{device, token}
}

// sql is a connection for looking behind the scenes.
func sql(tb testing.TB, url string) *pgx.Conn {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), url)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func scan[T any](tb testing.TB, conn *pgx.Conn, query string, args ...any) T {
	tb.Helper()
	var value T
	require.NoError(tb, conn.QueryRow(tb.Context(), query, args...).Scan(&value))
	return value
}

func exec(tb testing.TB, conn *pgx.Conn, query string, args ...any) {
	tb.Helper()
	_, err := conn.Exec(tb.Context(), query, args...)
	require.NoError(tb, err)
}

func eventually(tb testing.TB, condition func() bool, what string) {
	tb.Helper()
	require.Eventually(tb, condition, patience, 10*time.Millisecond, what)
}

// revocations collects what OnRevoked says.
type revocations struct {
	mu   sync.Mutex
	list []Revocation
}

func watch(r *Registry) *revocations {
	v := &revocations{}
	r.OnRevoked(func(revocation Revocation) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.list = append(v.list, revocation)
	})
	return v
}

func (v *revocations) count(revocation Revocation) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := 0
	for _, other := range v.list {
		if other == revocation {
			n++
		}
	}
	return n
}

func (v *revocations) has(revocation Revocation) func() bool {
	return func() bool { return v.count(revocation) > 0 }
}

func startOf(device Device) SessionStart {
	return SessionStart{Device: device, Remote: "192.0.2.7:4711", Connected: time.Now()}
}

func openSession(tb testing.TB, r *Registry, device Device) int64 {
	tb.Helper()
	info, err := r.OpenSession(tb.Context(), startOf(device))
	require.NoError(tb, err)
	return info.Session
}

func endOf(session int64, reason string) SessionEnd {
	return SessionEnd{SessionProgress: SessionProgress{Session: session}, Disconnected: time.Now(), Code: 1006, Reason: reason}
}
