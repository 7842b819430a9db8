package storage

import (
	"context"
	"io"
	"net"
	"net/url"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

// keepWriting writes small batches until stop is closed, and returns how many
// rows Write said were stored.
func (f *fixture) keepWriting(t *testing.T, writer int, stop <-chan struct{}, progress *atomic.Int64) int {
	t.Helper()
	device := f.devices[writer]
	total := 0
	for seq := uint64(0); ; seq += 200 {
		select {
		case <-stop:
			return total
		default:
		}
		var b batch
		b.series(device, f.numbers, seq, 200)
		outcome, err := f.Write(t.Context(), writer, b.rows, b.count, nil)
		if err != nil {
			t.Errorf("write: %v", err)
			return total
		}
		if len(outcome.Rejected) > 0 {
			t.Errorf("rejected: %v", outcome.Rejected)
		}
		total += 200
		progress.Add(200)
	}
}

// Postgres goes away and comes back in the middle of writing: in good order, by
// kill -9, frozen.
func TestPostgresGoesAway(t *testing.T) {
	t.Parallel()
	for name, outage := range map[string]struct {
		away, back func(t *testing.T, p *pgtest.Postgres)
	}{
		"stopped": {func(t *testing.T, p *pgtest.Postgres) { t.Helper(); p.Stop(t) }, func(t *testing.T, p *pgtest.Postgres) { t.Helper(); p.Start(t) }},
		"killed":  {func(t *testing.T, p *pgtest.Postgres) { t.Helper(); p.Kill9(t) }, func(t *testing.T, p *pgtest.Postgres) { t.Helper(); p.Start(t) }},
		"frozen":  {func(t *testing.T, p *pgtest.Postgres) { t.Helper(); p.Pause(t) }, func(t *testing.T, p *pgtest.Postgres) { t.Helper(); p.Resume(t) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := pgtest.Cluster(t)
			f := newFixture(t, cluster.URL(), func(c *Config) { c.AttemptTimeout = 5 * time.Second })
			stop := make(chan struct{})
			var progress atomic.Int64
			var totals [2]int
			var writers sync.WaitGroup
			for i := range totals {
				writers.Go(func() { totals[i] = f.keepWriting(t, i, stop, &progress) })
			}
			moved := func(by int64) {
				t.Helper()
				from := progress.Load()
				require.Eventually(t, func() bool { return progress.Load() > from+by }, patience, 5*time.Millisecond)
			}
			for range 2 {
				moved(2000)
				outage.away(t, cluster)
				// Nothing is claimed while it is away, and soon it is known to be.
				require.Eventually(t, func() bool { return !f.Available() }, patience, 5*time.Millisecond)
				// A backend may outlive a killed main process for a moment, and what
				// it commits then is committed.
				before := int64(-1)
				require.Eventually(t, func() bool {
					still := progress.Load() == before
					before = progress.Load()
					return still
				}, patience, 300*time.Millisecond)
				outage.back(t, cluster)
			}
			moved(2000)
			close(stop)
			writers.Wait()
			require.Equal(t, totals[0]+totals[1], f.stored(t))
			require.Equal(t, f.stored(t), one[int](t, f.url, "SELECT count(DISTINCT (device_id, ts, seq)) FROM mooring.samples"))
		})
	}
}

// While Postgres is away, or frozen, the end of ctx frees Write at once, with
// an error.
func TestContextEndsWhileAway(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Cluster(t)
	f := newFixture(t, cluster.URL(), func(c *Config) { c.AttemptTimeout = time.Hour })
	var b batch
	b.series(f.devices[0], f.numbers, 0, 100)
	require.Empty(t, f.write(t, &b))

	var more batch
	more.series(f.devices[0], f.numbers, 100, 50_000) // more than any buffer takes
	for _, frozen := range []bool{true, false} {
		if frozen {
			cluster.Pause(t)
		} else {
			cluster.Resume(t)
			cluster.Stop(t)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		err := ends(t, func() error {
			_, err := f.Write(ctx, 0, more.rows, more.count, nil)
			return err
		})
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	cluster.Start(t)
	outcome := f.write(t, &more)
	require.Empty(t, outcome.Rejected)
	require.Equal(t, 50_100, f.stored(t))
}

// copyDone is the CommandComplete of a COPY; errors say COPY too.
var copyDone = regexp.MustCompile(`COPY [0-9]`)

// cutter is a TCP proxy that can lose the answer to a commit: when armed, it
// cuts the connection instead of passing on a CommandComplete of COPY.
type cutter struct {
	listener net.Listener
	target   string
	armed    atomic.Int32                  // so many answers are still to be lost
	losing   atomic.Pointer[regexp.Regexp] // which; nil: copyDone
	conns    sync.WaitGroup
}

func newCutter(t *testing.T, address string) (*cutter, string) {
	t.Helper()
	parsed, err := url.Parse(address)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &cutter{listener: listener, target: parsed.Host}
	c.conns.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			c.conns.Go(func() { c.serve(conn) })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); c.conns.Wait() })
	parsed.Host = listener.Addr().String()
	query := parsed.Query()
	query.Set("sslmode", "disable") // to be able to read along
	parsed.RawQuery = query.Encode()
	return c, parsed.String()
}

func (c *cutter) serve(client net.Conn) {
	server, err := net.Dial("tcp", c.target)
	if err != nil {
		_ = client.Close()
		return
	}
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
		_ = client.Close()
	})
	defer both.Wait()
	defer func() { _ = client.Close(); _ = server.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		losing := c.losing.Load()
		if losing == nil {
			losing = copyDone
		}
		if losing.Match(buffer[:n]) && c.armed.Add(-1) >= 0 {
			return // committed, but nobody will know
		}
		if _, writeErr := client.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

// The answer to a commit is lost, and is found again in the books: every row is
// stored exactly once, and counted as what it was.
func TestAnswerToCommitIsLost(t *testing.T) {
	t.Parallel()
	cutter, address := newCutter(t, pgtest.URL(t))
	f := newFixture(t, address)
	var b batch
	b.series(f.devices[0], f.numbers, 0, 1000)
	cutter.armed.Store(1)
	outcome := f.write(t, &b)
	require.LessOrEqual(t, cutter.armed.Load(), int32(0), "the answer was lost")
	require.Empty(t, outcome.Rejected)
	require.Empty(t, outcome.Duplicates, "the device sent them once")
	require.Equal(t, booked{1000, 0}, f.booked(t, f.devices[0]))
	require.Equal(t, 1000, f.stored(t))
	require.Empty(t, f.write(t, func() *batch { var b batch; b.series(f.devices[0], f.numbers, 1000, 10); return &b }()))
}

// Without rows to write it is noticed too, and Close does not wait for a
// Postgres that never answers.
func TestFrozenWithoutRows(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Cluster(t)
	f := newFixture(t, cluster.URL())
	var b batch
	b.series(f.devices[0], f.numbers, 0, 10)
	f.write(t, &b)
	cluster.Pause(t)
	require.Eventually(t, func() bool { return !f.Available() }, time.Minute, 10*time.Millisecond)
	cluster.Resume(t)
	require.Eventually(t, f.Available, time.Minute, 10*time.Millisecond)

	cluster.Pause(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_ = ends(t, func() error { return f.Close(ctx) })
	cluster.Resume(t)
}
