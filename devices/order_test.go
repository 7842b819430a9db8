package devices

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/wire"
)

// outOfOrder counts what must not be, over the whole table: sessions that begin
// before the one before them in number began or ended, that end before they
// begin, that are open although a newer one is there, or that don't say when the
// next one began.
const outOfOrder = `
SELECT count(*) FROM (
    SELECT s.*, lead(s.connected_at) OVER next AS next FROM mooring.sessions s WINDOW next AS (PARTITION BY s.device_id ORDER BY s.id)
) s
WHERE s.next < s.connected_at OR s.disconnected_at < s.connected_at OR s.disconnected_at > s.next
   OR s.next IS NOT NULL AND s.disconnected_at IS NULL OR s.next IS DISTINCT FROM s.replaced_at`

func requireOrder(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	require.Zero(t, scan[int](t, conn, outOfOrder), "sessions out of order")
	require.Zero(t, scan[int](t, conn, `SELECT count(*) FROM (
		SELECT FROM mooring.sessions WHERE disconnected_at IS NULL GROUP BY device_id HAVING count(*) > 1) twice`), "devices that are online twice")
}

// A hundred thousand reconnects and takeovers over three servers whose clocks
// differ, one of which dies in the middle, with ends that come late, never, or
// in another order: no session is out of order, at the end and whenever somebody
// looks, and a follower is told of no device's past after its present.
func TestNoSessionIsOutOfOrder(t *testing.T) {
	t.Parallel()
	const fleet, each = 2000, 50
	url := pgtest.URL(t)
	admin, conn := openAdmin(t, url), sql(t, url)
	skews := []time.Duration{0, 2 * time.Second, -3 * time.Second}
	gateways := make([]*Registry, len(skews))
	for i := range gateways {
		gateways[i] = openRegistry(t, url, func(c *Config) {
			c.Gateway, c.FlushEvery, c.Wait = "gateway-"+strconv.Itoa(i+1), 50*time.Millisecond, time.Minute
			if i == 2 { // it dies
				c.Lease = time.Hour
			}
		})
	}
	added, err := admin.AddMany(t.Context(), NewDevices{Prefix: "s", Count: fleet})
	require.NoError(t, err)
	f := follow(t, admin)

	var opened sync.WaitGroup // for the third server's death
	opened.Add(fleet)
	dead := make(chan struct{})
	newest, online := make([]int64, fleet), make([]bool, fleet)
	var running, ends sync.WaitGroup
	for i, d := range added {
		running.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 7))
			servers := len(gateways)
			type current struct {
				gateway int
				session int64
			}
			var now current
			end := func(c current, delay time.Duration) {
				if c.session == 0 || c.gateway == 2 && random.IntN(8) == 0 {
					return // never: its server dies first
				}
				ends.Go(func() {
					<-time.After(delay)
					gateways[c.gateway].Progress(SessionProgress{Session: c.session, LastSeen: time.Now(), Next: 5, HasNext: true})
					gateways[c.gateway].EndSession(SessionEnd{
						SessionProgress: SessionProgress{Session: c.session}, Disconnected: time.Now().Add(skews[c.gateway]),
						Code: wire.CloseHeartbeat, Reason: "nothing was heard",
					})
				})
			}
			for round := range each {
				if round == each/2 {
					opened.Done()
					<-dead
					servers = 2
				}
				g := random.IntN(servers)
				start := startOf(d.Device)
				start.Connected = start.Connected.Add(skews[g])
				info, err := gateways[g].OpenSession(t.Context(), start)
				if err != nil || info.Session <= newest[i] {
					t.Errorf("session %d after %d: %v", info.Session, newest[i], err)
					return
				}
				newest[i] = info.Session
				end(now, time.Duration(random.IntN(20))*time.Millisecond)
				now = current{g, info.Session}
				if random.IntN(4) == 0 { // a reconnect, no takeover
					end(now, 0)
					now = current{}
				}
			}
			if online[i] = now.session != 0 && random.IntN(2) == 0; !online[i] {
				end(now, 0)
			}
		})
	}
	opened.Wait()
	requireOrder(t, conn)
	kill(gateways[2])
	endLease(t, conn, gateways[2])
	close(dead)
	running.Wait()
	requireOrder(t, conn)
	ends.Wait()
	for _, g := range gateways[:2] {
		eventually(t, func() bool { _, ended := g.book.size(); return ended == 0 }, "all ends are written")
	}
	eventually(t, func() bool {
		return scan[int](t, conn, `SELECT count(*) FROM mooring.gateways WHERE ended_at IS NULL`) == 2
	}, "the dead server is found to be dead")
	require.Equal(t, fleet*each, scan[int](t, conn, `SELECT count(*) FROM mooring.sessions`))
	requireOrder(t, conn)

	count := 0
	for i, d := range added {
		last := f.await(t, d.Device.ID, "the follower has heard of it", func(c PresenceChange) bool {
			return c.Session == newest[i] && c.Online == online[i]
		})
		if last.Online {
			count++
		}
		before := PresenceChange{}
		for _, c := range f.of(d.Device.ID) {
			if c.Session < before.Session || c.Session == before.Session && c.Online && before.Session != 0 {
				t.Errorf("%s: told of session %d, online %v, after %d, online %v", d.Device.Name, c.Session, c.Online, before.Session, before.Online)
			}
			before = c
		}
	}
	require.Equal(t, count, scan[int](t, conn, openRows))
}
