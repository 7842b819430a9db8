package storage

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

// That a partition can't be made is never a row's fault, however often it is
// tried: ANALYZE of a large table holds the lock for longer than anybody waits for
// it, and an administrator may forbid changes of the schema for a night. The row
// waits, and is stored once there can be a partition.
func TestRowsWaitForAPartitionThatCannotBeMade(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]string{"a lock": "55P03", "a policy": "P0001"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			f := newFixture(t, url)
			super := pgtest.SuperuserURL(t, url)
			execute(t, super, fmt.Sprintf(`CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$
				BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '%s'; END$$`, code),
				"CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.refuse()")
			var b batch
			b.add(f.devices[0], f.numbers, 11, base-40*int64(24*time.Hour/time.Microsecond), number(1))
			written := make(chan Outcome, 1)
			go func() { written <- f.write(t, &b) }()
			retried := func() float64 {
				return counted(t, f.metrics.retries.WithLabelValues("transient")) + counted(t, f.metrics.retries.WithLabelValues("operator"))
			}
			require.Eventually(t, func() bool { return len(written) > 0 || retried() > 2*partitionTries }, time.Minute, 5*time.Millisecond)
			execute(t, super, "DROP EVENT TRIGGER refuse")
			require.Empty(t, <-written)
			require.Equal(t, 1, f.stored(t))
		})
	}
}
