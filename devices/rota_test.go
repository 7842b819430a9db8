package devices

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// checks is what a registry without a database is to check: when it asked about
// which sessions in one statement, and what it is answered.
type checks struct {
	r       *Registry
	asked   map[int64][]time.Time
	perTick map[time.Time]int
	fails   func() error // nil: nothing does
}

func newChecks() *checks {
	return &checks{
		r: &Registry{
			config: Config{CheckEvery: 30 * time.Second, Logger: slog.New(slog.DiscardHandler)}, book: newBook(30 * time.Second),
			recheck: make(chan struct{}, 1), suspected: make(chan struct{}, 1),
		},
		asked: make(map[int64][]time.Time), perTick: make(map[time.Time]int),
	}
}

func (c *checks) check(which sessions, _ bool) error {
	now := time.Now()
	some := false
	which(func(id int64) {
		c.asked[id] = append(c.asked[id], now)
		c.perTick[now]++
		some = true
	})
	if some && c.fails != nil {
		return c.fails()
	}
	return nil
}

// run looks after the sessions while do is at it.
func (c *checks) run(t *testing.T, do func()) {
	t.Helper()
	stop, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.r.watchSessions(stop, c.check)
	}()
	do()
	cancel()
	<-ended
}

func (c *checks) open(id int64) {
	c.r.book.open(id, &SessionStart{Device: Device{ID: int32(id)}})
}

// Each session is asked about within CheckEvery of its opening and of the last
// time, though others come and go, and no more at a time than their share.
func TestChecksAreSpreadAndNeverLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const every, atOnce, later = 30 * time.Second, 3000, 900
		c := newChecks()
		opened := make(map[int64]time.Time)
		ended := make(map[int64]time.Time)
		begin := time.Now()
		c.run(t, func() {
			for id := range int64(atOnce) { // a fleet that comes at once
				c.open(id)
				opened[id] = time.Now()
			}
			for id := int64(atOnce); id < atOnce+later; id++ { // others, for 90 s; each third goes soon
				time.Sleep(100 * time.Millisecond)
				c.open(id)
				opened[id] = time.Now()
				if id%3 == 0 {
					gone := id - atOnce
					require.True(t, c.r.book.end(SessionEnd{SessionProgress: SessionProgress{Session: gone}}))
					ended[gone] = time.Now()
				}
			}
			time.Sleep(2 * every)
		})
		until := time.Now()
		require.Equal(t, 150*time.Second, until.Sub(begin))
		for id, from := range opened {
			to, over := ended[id]
			if !over {
				to = until
			}
			last := from
			for _, at := range append(c.asked[id], to) {
				require.LessOrEqual(t, at.Sub(last), every, "session %d, opened at %v", id, from.Sub(begin))
				last = at
			}
			require.LessOrEqual(t, len(c.asked[id]), int(to.Sub(from)/every)+1, "session %d", id)
		}
		for at, n := range c.perTick {
			require.LessOrEqual(t, n, (atOnce+later)/checkShares+1, "at %v", at.Sub(begin))
		}
		for _, share := range c.r.book.rota.shares {
			require.LessOrEqual(t, len(share), (atOnce+later)/checkShares+1)
		}
	})
}

// A check that fails is made up for a second later, and with it all others: nobody
// can tell how long it took to fail.
func TestAFailedShareHasAllAskedAbout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newChecks()
		for id := range int64(300) {
			c.open(id)
		}
		failures := 0
		c.fails = func() error {
			if failures++; failures <= 2 {
				return errors.New("the database is away")
			}
			return nil
		}
		begin := time.Now()
		c.run(t, func() { time.Sleep(3500 * time.Millisecond) })
		require.Len(t, c.asked, 300)
		for id, at := range c.asked { // the second failed for all, the third did not
			require.Equal(t, 3*time.Second, at[len(at)-1].Sub(begin), "session %d", id)
			require.Equal(t, 2*time.Second, at[len(at)-2].Sub(begin), "session %d", id)
		}
	})
}

// What was stopped for long asks about each session once, not for each turn missed.
func TestLateSharesAreAskedAboutOnce(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	r := newRota(30*time.Second, begin)
	for id := range int64(90) {
		r.join(id)
	}
	asked := make(map[int64]int)
	take := func(after time.Duration) (n int) {
		r.take(begin.Add(after), func(id int64) bool {
			asked[id]++
			n++
			return id%2 == 0
		})
		return n
	}
	require.Zero(t, take(999*time.Millisecond))
	require.Equal(t, 3, take(time.Second))
	require.Zero(t, take(1999*time.Millisecond), "it had its turn")
	require.Equal(t, 6, take(3500*time.Millisecond))
	clear(asked)
	take(time.Hour)
	for id, times := range asked {
		require.Equal(t, 1, times, "session %d", id)
	}
	require.Zero(t, take(time.Hour+500*time.Millisecond))
	clear(asked)
	require.Equal(t, 45, take(2*time.Hour), "the others are forgotten")
	require.Len(t, asked, 45)
}
