package storage

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

// Whoever has a synchronous standby wants no ack before the standby has the row.
// PostgreSQL gives up waiting for it when the statement is cancelled, as a driver
// does whose time is up, or when its process is ended, or it is restarted: then the
// rows are committed and can be seen, on the primary alone. They are not reported as
// stored before the standby, which is one that does not exist here, is there again.
func TestRowsWaitForTheSynchronousStandby(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, p *pgtest.Postgres){
		"an attempt takes too long": func(*testing.T, *pgtest.Postgres) {},
		"cancelled": func(t *testing.T, p *pgtest.Postgres) {
			t.Helper()
			require.True(t, one[bool](t, p.SuperuserURL(t), "SELECT pg_cancel_backend(pid) "+waitsForStandby))
		},
		"ended": func(t *testing.T, p *pgtest.Postgres) {
			t.Helper()
			require.True(t, one[bool](t, p.SuperuserURL(t), "SELECT pg_terminate_backend(pid) "+waitsForStandby))
		},
		"restarted": func(t *testing.T, p *pgtest.Postgres) {
			t.Helper()
			p.StopImmediately(t)
			p.Start(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := pgtest.Cluster(t)
			super := cluster.SuperuserURL(t)
			// An operator who wants to hear of errors only does not make us deaf.
			execute(t, super, "ALTER DATABASE "+one[string](t, cluster.URL(), "SELECT current_database()")+" SET client_min_messages = 'error'")
			f := newFixture(t, cluster.URL(), func(c *Config) {
				c.AttemptTimeout = 2 * time.Minute
				if name == "an attempt takes too long" {
					c.AttemptTimeout = time.Second
				}
			})
			execute(t, super, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
			back := func() { execute(t, super, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()") }
			defer back() // or nothing ends
			waiting := func() bool { return one[int](t, super, "SELECT count(*) "+waitsForStandby) > 0 }
			var reported atomic.Int64
			stop, ended := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(ended)
				f.keepWriting(t, 0, stop, &reported)
			}()
			// What was under way when the standby was named may still go through.
			require.Eventually(t, waiting, time.Minute, 5*time.Millisecond)

			before := reported.Load()
			end(t, cluster)
			require.Eventually(t, func() bool { return f.stored(t) > int(before) }, time.Minute, 5*time.Millisecond, "committed on the primary")
			require.Eventually(t, func() bool { return reported.Load() > before || waiting() }, time.Minute, 5*time.Millisecond, "again")
			require.Equal(t, before, reported.Load())

			back()
			require.Eventually(t, func() bool { return reported.Load() > before }, time.Minute, 5*time.Millisecond)
			close(stop)
			<-ended
			require.Equal(t, int(reported.Load()), f.stored(t))
			require.Equal(t, int(reported.Load()), one[int](t, f.url, "SELECT committed FROM mooring.books WHERE device = 'dev-1'"))
		})
	}
}

const waitsForStandby = "FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'mooring writer 0'"
