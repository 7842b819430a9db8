package devices

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/wire"
)

// Whoever is turned away is on record with the reason, if the device is known.
func TestRefusedHandshakesAreRecorded(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	r := openRegistry(t, url, func(c *Config) { c.FlushEvery = time.Hour })
	conn := sql(t, url)
	show := func(token, name string) {
		t.Helper()
		_, err := r.Authenticate(t.Context(), Credential{Token: token, Name: name, Remote: "10.0.0.7:99"})
		require.Error(t, err)
	}
	revoked, expired, disabled, good := add(t, admin, "revoked"), add(t, admin, "expired"), add(t, admin, "disabled"), add(t, admin, "good")
	exec(t, conn, `UPDATE mooring.tokens SET revoked_at = now() WHERE device_id = $1`, revoked.Device.ID)
	exec(t, conn, `UPDATE mooring.tokens SET expires_at = now() - interval '1 s' WHERE device_id = $1`, expired.Device.ID)
	require.NoError(t, admin.Disable(t.Context(), "disabled"))
	for range 3 {
		show(revoked.Token, "")
	}
	show(expired.Token, "")
	show(disabled.Token, "")
	show(good.Token, "revoked")
	show(newToken(), "good")
	show(newToken(), "nobody")
	show("not even a token", "")
	require.NoError(t, r.flushRefused(t.Context()))
	show(revoked.Token, "")
	require.NoError(t, r.flushRefused(t.Context()))
	require.Equal(t, []string{
		"disabled disabled 1", "expired expired 1", "good other_name 1", "good unknown_token 1", "revoked revoked 4",
	}, scan[[]string](t, conn, `SELECT array_agg(d.name || ' ' || r.reason || ' ' || r.times ORDER BY d.name, r.reason)
		FROM mooring.refused_handshakes r JOIN mooring.devices d ON d.id = r.device_id WHERE r.remote = '10.0.0.7:99'`))
}

// A flood of guesses costs a bounded amount of memory, and is counted.
func TestRefusedHandshakesAreBounded(t *testing.T) {
	t.Parallel()
	var l refusedLog
	dropped := 0
	for i := range maxRefusedKeys + 100 {
		if !l.note(&Credential{Token: "x", Name: fmt.Sprint("name", i)}, time.Now()) {
			dropped++
		}
	}
	require.Equal(t, 100, dropped)
	require.True(t, l.note(&Credential{Token: "x", Name: "name1"}, time.Now()), "known ones go on counting")
	require.Len(t, l.take(), maxRefusedKeys)
	require.Empty(t, l.take())
}

func TestWhy(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	r := openRegistry(t, url, nil)
	conn := sql(t, url)
	d := add(t, admin, "a")
	verdict := func() (string, string) {
		t.Helper()
		why, err := admin.Why(t.Context(), "a", 5)
		require.NoError(t, err)
		return why.Verdict()
	}
	sentence, advice := verdict()
	require.Contains(t, sentence, "never connected")
	require.NotEmpty(t, advice)

	session := openSession(t, r, d.Device)
	sentence, advice = verdict()
	require.Contains(t, sentence, "online since")
	require.Empty(t, advice)

	exec(t, conn, `INSERT INTO mooring.rejects (device_id, seq, n, channel, code, detail) VALUES ($1, 7, 1, 'c', 'RANGE', 'too large')`, d.Device.ID)
	sentence, _ = verdict()
	require.Contains(t, sentence, "but what it sends is refused")
	require.Contains(t, sentence, "too large")

	exec(t, conn, `INSERT INTO mooring.rejects (device_id, seq, n, code, detail) VALUES ($1, 8, 10, 'QUOTA', 'too much')`, d.Device.ID)
	sentence, advice = verdict()
	require.Contains(t, sentence, "but throttled")
	require.Contains(t, advice, "quota")

	r.EndSession(SessionEnd{SessionProgress: SessionProgress{Session: session}, Disconnected: time.Now(), Code: wire.CloseHeartbeat, Reason: "silent for 45 s"})
	eventually(t, func() bool { _, ended := r.book.size(); return ended == 0 }, "the end is written")
	sentence, advice = verdict()
	require.Contains(t, sentence, "4002 HEARTBEAT: silent for 45 s")
	require.Contains(t, advice, "network")

	exec(t, conn, `UPDATE mooring.tokens SET revoked_at = now()`)
	sentence, advice = verdict()
	require.Contains(t, sentence, "no good token")
	require.Contains(t, advice, "rotate a")
	eventually(t, func() bool {
		_, err := r.Authenticate(t.Context(), Credential{Token: d.Token, Remote: "10.0.0.7:99"})
		return err != nil && r.flushRefused(t.Context()) == nil
	}, "it is turned away")
	sentence, _ = verdict()
	require.Contains(t, sentence, "from 10.0.0.7:99: its token is revoked")

	require.NoError(t, admin.Disable(t.Context(), "a"))
	sentence, advice = verdict()
	require.Contains(t, sentence, "disabled")
	require.Equal(t, "mooring device enable a", advice)
	_, err := admin.Why(t.Context(), "b", 5)
	require.ErrorIs(t, err, ErrNotFound)
}

// While Postgres is known to be away everybody is turned away at once, known
// credentials too, for no session could be put on record; and let in again soon
// after it is back.
func TestAwayIsKnown(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Cluster(t)
	admin := openAdmin(t, cluster.URL())
	d := add(t, admin, "a")
	admin.Close()
	r := openRegistry(t, cluster.URL(), func(c *Config) { c.Lease, c.Wait = time.Hour, time.Second })
	shown := Credential{Token: d.Token}
	_, err := r.Authenticate(t.Context(), shown)
	require.NoError(t, err)
	cluster.Pause(t)
	eventually(t, func() bool {
		_, err := r.Authenticate(t.Context(), Credential{Token: newToken()})
		return errors.Is(err, ErrAway)
	}, "it is found to be away")
	_, err = r.Authenticate(t.Context(), shown)
	require.ErrorIs(t, err, ErrAway, "known credentials too")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = r.Authenticate(gone, Credential{Token: newToken()})
	require.ErrorIs(t, err, ErrAway, "nobody waits in vain: who has no time is told too")
	cluster.Resume(t)
	eventually(t, func() bool { _, err := r.Authenticate(t.Context(), shown); return err == nil }, "it is found to be back")
}

// They are written by themselves, now and then.
func TestRefusedHandshakesAreWrittenNowAndThen(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	r := openRegistry(t, url, func(c *Config) { c.FlushEvery = 20 * time.Millisecond })
	conn := sql(t, url)
	add(t, admin, "a")
	for times := 1; times <= 2; times++ {
		_, err := r.Authenticate(t.Context(), Credential{Token: newToken(), Name: "a"})
		require.Error(t, err)
		eventually(t, func() bool {
			return scan[int](t, conn, `SELECT COALESCE(sum(times), 0)::int4 FROM mooring.refused_handshakes`) == times
		}, "it is on record")
	}
}
