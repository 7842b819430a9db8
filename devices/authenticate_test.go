package devices

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

func TestAuthenticateByTokenNameAndCertificate(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, r := openAdmin(t, url), openRegistry(t, url, nil)
	boiler, other := add(t, admin, "boiler-7"), add(t, admin, "other")

	for range 2 { // from Postgres, then from memory
		device, err := r.Authenticate(t.Context(), Credential{Token: boiler.Token})
		require.NoError(t, err)
		require.Equal(t, boiler.Device, device)
		require.NotZero(t, device.TokenID)

		_, err = r.Authenticate(t.Context(), Credential{Token: boiler.Token, Name: "boiler-7"})
		require.NoError(t, err)
		_, err = r.Authenticate(t.Context(), Credential{Token: boiler.Token, Name: "other"})
		require.ErrorIs(t, err, ErrUnauthenticated, "another device's name")

		device, err = r.Authenticate(t.Context(), Credential{Certificate: "other", Serial: "1"})
		require.NoError(t, err)
		require.Equal(t, Device{ID: other.Device.ID, Name: "other", Serial: "1"}, device, "certificates have no token number")
	}
	for _, bad := range []struct{ token, name, certificate string }{
		{},
		{name: "boiler-7"},
		{token: newToken()},
		{token: newToken(), certificate: "boiler-7"}, // a token that is sent counts
		{token: boiler.Token[:61]},
		{token: strings.Repeat("x", 257)},
		{token: "\x00"},
		{certificate: "nobody"},
		{certificate: "a\x00b"},
		{certificate: "\xff"},
		{certificate: strings.Repeat("x", 5000)},
	} {
		_, err := r.Authenticate(t.Context(), Credential{Token: bad.token, Name: bad.name, Certificate: bad.certificate, Serial: "1"})
		require.ErrorIs(t, err, ErrUnauthenticated, "%+v", bad)
	}

	require.NoError(t, admin.Disable(t.Context(), "boiler-7"))
	eventually(t, func() bool {
		_, err := r.Authenticate(t.Context(), Credential{Token: boiler.Token})
		return errors.Is(err, ErrDisabled)
	}, "disabled")
	_, err := r.Authenticate(t.Context(), Credential{Token: boiler.Token, Name: "other"})
	require.ErrorIs(t, err, ErrUnauthenticated, "who uses another's name learns nothing of it")
	_, err = r.Authenticate(t.Context(), Credential{Certificate: "boiler-7", Serial: "1"})
	require.ErrorIs(t, err, ErrDisabled)
	require.NoError(t, admin.Enable(t.Context(), "boiler-7"))
	eventually(t, func() bool {
		_, err := r.Authenticate(t.Context(), Credential{Token: boiler.Token})
		return err == nil
	}, "enabled again, although its refusal was remembered")
}

func TestAReconnectStormIsAFewQueries(t *testing.T) {
	t.Parallel()
	const size = 10_000
	url := pgtest.URL(t)
	log := &queryLog{}
	admin := openAdmin(t, url)
	r := openRegistry(t, url, func(c *Config) { c.tracer, c.Wait = log, 30*time.Second })
	added, err := admin.AddMany(t.Context(), NewDevices{Prefix: "sim-", Count: size})
	require.NoError(t, err)

	storm := func(token func(i int) string, check func(i int, d Device, err error) bool) {
		start := make(chan struct{})
		var wrong atomic.Int64
		var wg sync.WaitGroup
		for i := range size {
			wg.Go(func() {
				<-start
				device, err := r.Authenticate(t.Context(), Credential{Token: token(i)})
				if !check(i, device, err) {
					wrong.Add(1)
				}
			})
		}
		began := time.Now()
		close(start)
		wg.Wait()
		t.Logf("%d authentications in %v, %d queries so far", size, time.Since(began).Round(time.Millisecond), log.count("authenticate"))
		require.Zero(t, wrong.Load())
	}
	good := func(i int, d Device, err error) bool { return err == nil && d == added[i].Device }
	refused := func(_ int, _ Device, err error) bool { return errors.Is(err, ErrUnauthenticated) }

	storm(func(i int) string { return added[i].Token }, good)
	cold := log.count("authenticate")
	require.Positive(t, cold)
	require.LessOrEqual(t, cold, 40)

	storm(func(i int) string { return added[i].Token }, good)
	require.Equal(t, cold, log.count("authenticate"), "the second storm is answered from memory")

	bad := make([]string, size)
	for i := range bad {
		bad[i] = newToken()
	}
	storm(func(i int) string { return bad[i] }, refused)
	afterBad := log.count("authenticate")
	require.LessOrEqual(t, afterBad-cold, 40)
	storm(func(i int) string { return bad[i] }, refused)
	require.Equal(t, afterBad, log.count("authenticate"), "refusals are remembered too")
	storm(func(i int) string { return fmt.Sprintf("mrg_%058d", i) }, refused)
	require.Equal(t, afterBad, log.count("authenticate"), "what is no token is not asked for")
}

func TestOneCredentialIsAskedForOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	log := &queryLog{}
	admin, r := openAdmin(t, url), openRegistry(t, url, func(c *Config) { c.tracer = log })
	device := add(t, admin, "a")
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			_, err := r.Authenticate(t.Context(), Credential{Token: device.Token})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, log.count("authenticate"), 2)
}

func TestADeviceWorksAtOnceAfterItWasRefused(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	r := openRegistry(t, url, func(c *Config) { c.RefusedFor = time.Hour })
	_, err := r.Authenticate(t.Context(), Credential{Certificate: "late", Serial: "1"})
	require.ErrorIs(t, err, ErrUnauthenticated)
	add(t, admin, "late")
	eventually(t, func() bool {
		_, err := r.Authenticate(t.Context(), Credential{Certificate: "late", Serial: "1"})
		return err == nil
	}, "the refusal is forgotten")

	// The same for a token that SQL brings in.
	token := newToken()
	_, err = r.Authenticate(t.Context(), Credential{Token: token})
	require.ErrorIs(t, err, ErrUnauthenticated)
	exec(t, sql(t, url), `INSERT INTO mooring.tokens (device_id, hash) SELECT id, sha256(convert_to($1, 'UTF8')) FROM mooring.devices`, token)
	eventually(t, func() bool {
		_, err := r.Authenticate(t.Context(), Credential{Token: token})
		return err == nil
	}, "the refusal is forgotten")
}

func TestExpiryIsHonouredFromMemory(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	log := &queryLog{}
	admin := openAdmin(t, url)
	r := openRegistry(t, url, func(c *Config) { c.tracer, c.CacheFor = log, time.Hour })
	device, token, err := admin.Add(t.Context(), NewDevice{Name: "short", TokenLifetime: 5 * time.Second})
	require.NoError(t, err)
	_, err = r.Authenticate(t.Context(), Credential{Token: token})
	require.NoError(t, err)
	require.Equal(t, 1, log.count("authenticate"))
	eventually(t, func() bool {
		_, err := r.Authenticate(t.Context(), Credential{Token: token})
		return errors.Is(err, ErrUnauthenticated)
	}, "expired, long before it would be asked for again")
	require.Equal(t, 2, log.count("authenticate"), "until then it was answered from memory")
	_, err = r.OpenSession(t.Context(), startOf(device))
	require.ErrorIs(t, err, ErrUnauthenticated)
}

func TestATokenThatNeverEndsInSQLIsGood(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, r := openAdmin(t, url), openRegistry(t, url, nil)
	device := add(t, admin, "a")
	exec(t, sql(t, url), `UPDATE mooring.tokens SET expires_at = 'infinity'`)
	_, err := r.Authenticate(t.Context(), Credential{Token: device.Token})
	require.NoError(t, err)
	detail, err := admin.Show(t.Context(), "a")
	require.NoError(t, err)
	require.True(t, detail.Tokens[0].Live)
	require.Zero(t, detail.Tokens[0].ExpiresAt)
}

func TestPostgresAway(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Cluster(t)
	url := cluster.URL()
	admin := openAdmin(t, url)
	r := openRegistry(t, url, func(c *Config) { c.Wait, c.FlushEvery = 2*time.Second, 100*time.Millisecond })
	known, unknown, other := add(t, admin, "known"), add(t, admin, "unknown"), add(t, admin, "other")
	_, err := r.Authenticate(t.Context(), Credential{Token: known.Token})
	require.NoError(t, err)
	session := openSession(t, r, known.Device)

	temporary := func(token string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := r.Authenticate(ctx, Credential{Token: token})
		require.Error(t, err)
		require.NotErrorIs(t, err, ErrUnauthenticated)
		require.NotErrorIs(t, err, ErrDisabled)
		require.NoError(t, ctx.Err(), "it is Wait that ends it")
	}
	cluster.Pause(t) // it does not even refuse
	temporary(unknown.Token)
	r.health.failing.Store(time.Now().Add(time.Hour).UnixNano()) // not for so long that it is known to be away
	device, err := r.Authenticate(t.Context(), Credential{Token: known.Token})
	require.NoError(t, err)
	require.Equal(t, known.Device, device)
	cluster.Resume(t)

	cluster.Stop(t)
	temporary(other.Token) // the first may have been answered on resuming
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err = r.OpenSession(ctx, startOf(known.Device))
	require.Error(t, err)
	require.NoError(t, ctx.Err(), "it is Wait that ends it")

	// The end of a session outlives the outage.
	r.EndSession(SessionEnd{
		SessionProgress: SessionProgress{Session: session, Counts: SessionCounts{RowsIn: 7}},
		Disconnected:    time.Now(), Code: 4002, Reason: "silence",
	})
	eventually(t, func() bool { return metricValue(t, r.metrics.flushFailures) > 0 }, "it was tried in vain")
	_, unwritten := r.book.size()
	require.Equal(t, 1, unwritten)
	cluster.Start(t)
	eventually(t, func() bool { _, unwritten := r.book.size(); return unwritten == 0 }, "it is written")
	require.Equal(t, "silence 7", scan[string](t, sql(t, url), `SELECT concat_ws(' ', reason, rows_in) FROM mooring.sessions WHERE id = $1`, session))
	eventually(t, func() bool {
		_, err := r.Authenticate(t.Context(), Credential{Token: unknown.Token})
		return err == nil
	}, "it works again")
}

func TestCallersAreBoundedAndMayLeave(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	// No goroutine runs here: whoever asks, waits.
	l := newLookups(nil, newCache(1, 1, time.Hour, time.Hour), newMetrics(nil), time.Hour, 2)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			_, err := l.ask(ctx, credentialKey{byte(i)}, "", "")
			if !errors.Is(err, context.Canceled) {
				t.Errorf("unexpected: %v", err)
			}
		})
	}
	eventually(t, func() bool { return l.waiting() == 2 }, "two wait")
	_, err := l.ask(t.Context(), credentialKey{9}, "", "")
	require.ErrorIs(t, err, ErrBusy)
	shared, err := l.enqueue(credentialKey{1}, "", "")
	require.NoError(t, err, "a question that waits already takes no room")
	batch := l.take()
	require.Len(t, batch, 2)
	require.Contains(t, batch, shared)
	again, err := l.enqueue(credentialKey{1}, "", "")
	require.NoError(t, err)
	require.NotSame(t, shared, again, "a question under way may be answered with what was true before")
	cancel()
	wg.Wait()

	r := openRegistry(t, url, nil)
	require.NoError(t, r.Close(t.Context()))
	require.NoError(t, r.Close(t.Context()), "closing twice is fine")
	_, err = r.Authenticate(t.Context(), Credential{Token: newToken()})
	require.ErrorIs(t, err, ErrClosed)
	_, err = r.OpenSession(t.Context(), startOf(Device{ID: 1}))
	require.ErrorIs(t, err, ErrClosed)
}
