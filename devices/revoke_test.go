package devices

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

func TestWhatAnAdminRevokesEndsElsewhere(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	r := openRegistry(t, url, func(c *Config) { c.CheckEvery = time.Hour }) // by NOTIFY alone
	heard := watch(r)
	for _, test := range []struct {
		name string
		act  func(d Added) error
		want func(d Device) Revocation
		err  error
	}{
		{
			"disable", func(d Added) error { return admin.Disable(t.Context(), d.Device.Name) },
			func(d Device) Revocation { return Revocation{DeviceID: d.ID, Disabled: true} }, ErrDisabled,
		},
		{
			"revoke", func(d Added) error { _, err := admin.Revoke(t.Context(), d.Device.Name, 0); return err },
			func(d Device) Revocation { return Revocation{DeviceID: d.ID, TokenID: d.TokenID} }, ErrUnauthenticated,
		},
		{
			"rotate now", func(d Added) error {
				_, _, err := admin.Rotate(t.Context(), d.Device.Name, Rotation{Now: true})
				return err
			},
			func(d Device) Revocation { return Revocation{DeviceID: d.ID, TokenID: d.TokenID} }, ErrUnauthenticated,
		},
		{
			"remove", func(d Added) error { return admin.Remove(t.Context(), d.Device.Name, false) },
			func(d Device) Revocation { return Revocation{DeviceID: d.ID} }, ErrUnauthenticated,
		},
	} {
		d := add(t, admin, "device-"+test.name[:6])
		_, err := r.Authenticate(t.Context(), Credential{Token: d.Token})
		require.NoError(t, err, test.name)
		session := openSession(t, r, d.Device)

		require.NoError(t, test.act(d), test.name)
		eventually(t, heard.has(test.want(d.Device)), test.name)
		_, err = r.Authenticate(t.Context(), Credential{Token: d.Token})
		require.ErrorIs(t, err, test.err, test.name)
		_, err = r.OpenSession(t.Context(), startOf(d.Device))
		require.ErrorIs(t, err, test.err, test.name)

		before := heard.count(test.want(d.Device))
		eventually(t, func() bool { return heard.count(test.want(d.Device)) > before }, "repeated while the session is open")
		r.EndSession(endOf(session, "revoked"))
		require.Empty(t, r.book.overdue())
	}
}

func TestRevokedByHandInSQL(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, conn := openAdmin(t, url), sql(t, url)
	r := openRegistry(t, url, func(c *Config) { c.CheckEvery = time.Hour })
	heard := watch(r)
	d := add(t, admin, "a")
	exec(t, conn, `UPDATE mooring.devices SET name = 'b' WHERE name = 'a'`)
	eventually(t, func() bool {
		device, err := r.Authenticate(t.Context(), Credential{Token: d.Token})
		return err == nil && device.Name == "b"
	}, "the new name")
	d2, err := r.Authenticate(t.Context(), Credential{Token: d.Token})
	require.NoError(t, err)
	openSession(t, r, d2)
	exec(t, conn, `UPDATE mooring.tokens SET expires_at = now()`)
	eventually(t, heard.has(Revocation{DeviceID: d.Device.ID, TokenID: d.Device.TokenID}), "expired by hand")
	require.Equal(t, "b", d2.Name)
}

func TestRotationLeavesTimeToChange(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	r := openRegistry(t, url, func(c *Config) { c.CheckEvery = 100 * time.Millisecond })
	heard := watch(r)
	first := add(t, admin, "a")
	session := openSession(t, r, first.Device)
	good := func(token string) bool {
		_, err := r.Authenticate(t.Context(), Credential{Token: token})
		return err == nil
	}
	require.True(t, good(first.Token))

	device, second, err := admin.Rotate(t.Context(), "a", Rotation{Grace: 10 * time.Second})
	require.NoError(t, err)
	require.Equal(t, first.Device.ID, device.ID)
	require.NotEqual(t, first.Device.TokenID, device.TokenID)
	require.True(t, good(first.Token))
	require.True(t, good(second))
	ended := Revocation{DeviceID: device.ID, TokenID: first.Device.TokenID}
	require.Zero(t, heard.count(ended))

	eventually(t, func() bool { return !good(first.Token) }, "its grace ends")
	eventually(t, heard.has(ended), "and with it the session, by the check of open sessions")
	require.True(t, good(second))
	r.EndSession(endOf(session, "expired"))
}

func TestTwoTokensLiveAtMost(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, r := openAdmin(t, url), openRegistry(t, url, nil)
	first := add(t, admin, "a")
	openSession(t, r, first.Device)

	rotate := func() (Device, string) {
		device, token, err := admin.Rotate(t.Context(), "a", Rotation{})
		require.NoError(t, err)
		return device, token
	}
	live := func() (ids []int64) {
		detail, err := admin.Show(t.Context(), "a")
		require.NoError(t, err)
		for _, token := range detail.Tokens {
			if token.Live {
				ids = append(ids, token.ID)
			}
		}
		return ids
	}
	second, _ := rotate()
	require.Equal(t, []int64{second.TokenID, first.Device.TokenID}, live())
	third, _ := rotate()
	require.Equal(t, []int64{third.TokenID, first.Device.TokenID}, live(),
		"the second token never reached the device, so the first must not be cut off")
	openSession(t, r, third)
	fourth, _ := rotate()
	require.Equal(t, []int64{fourth.TokenID, third.TokenID}, live())

	done := make(chan struct{})
	for range 8 {
		go func() {
			defer func() { done <- struct{}{} }()
			if _, _, err := admin.Rotate(t.Context(), "a", Rotation{}); err != nil {
				t.Error(err)
			}
		}()
	}
	for range 8 {
		<-done
	}
	require.Len(t, live(), 2)

	// They wait for each other.
	conn := sql(t, url)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT FROM mooring.devices FOR NO KEY UPDATE`)
	require.NoError(t, err)
	go func() {
		defer close(done)
		if _, _, err := admin.Rotate(t.Context(), "a", Rotation{}); err != nil {
			t.Error(err)
		}
	}()
	watcher := sql(t, url)
	eventually(t, func() bool {
		return scan[bool](t, watcher, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`)
	}, "the rotation waits for the other one")
	require.NoError(t, tx.Commit(t.Context()))
	<-done

	_, _, err = admin.Rotate(t.Context(), "a", Rotation{Now: true})
	require.NoError(t, err)
	require.Len(t, live(), 1)
	_, _, err = admin.Rotate(t.Context(), "nobody", Rotation{})
	require.ErrorIs(t, err, ErrNotFound)
}

func TestARotationNeverProlongsAToken(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	_, _, err := admin.Add(t.Context(), NewDevice{Name: "a", TokenLifetime: time.Hour})
	require.NoError(t, err)
	_, _, err = admin.Rotate(t.Context(), "a", Rotation{Grace: 48 * time.Hour})
	require.NoError(t, err)
	detail, err := admin.Show(t.Context(), "a")
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(time.Hour), detail.Tokens[1].ExpiresAt, time.Minute)
	require.Zero(t, detail.Tokens[0].ExpiresAt)
}

func TestADeafListenerHearsOfRevocationsAfterAll(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, conn := openAdmin(t, url), sql(t, url)
	r := openRegistry(t, url, func(c *Config) { c.CheckEvery = time.Hour })
	heard := watch(r)
	a, b := add(t, admin, "a"), add(t, admin, "b")
	for _, d := range []Added{a, b} {
		_, err := r.Authenticate(t.Context(), Credential{Token: d.Token})
		require.NoError(t, err)
		openSession(t, r, d.Device)
	}
	c := add(t, admin, "c") // known, but not connected
	_, err := r.Authenticate(t.Context(), Credential{Token: c.Token})
	require.NoError(t, err)

	// The connection is lost, and so is what is told: nothing at all, here.
	tx, err := conn.BeginTx(t.Context(), pgx.TxOptions{})
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `ALTER TABLE mooring.tokens DISABLE TRIGGER USER`)
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `UPDATE mooring.tokens SET revoked_at = now() WHERE device_id = ANY ($1)`, []int32{a.Device.ID, c.Device.ID})
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `ALTER TABLE mooring.tokens ENABLE TRIGGER USER`)
	require.NoError(t, err)
	require.NoError(t, tx.Commit(t.Context()))
	_, err = r.Authenticate(t.Context(), Credential{Token: a.Token})
	require.NoError(t, err, "nobody told")
	killListener(t, conn, r)

	eventually(t, heard.has(Revocation{DeviceID: a.Device.ID, TokenID: a.Device.TokenID}), "found by the check")
	eventually(t, func() bool { return metricValue(t, r.metrics.listenReconnects) >= 1 }, "listens again")
	for _, d := range []Added{a, c} {
		_, err = r.Authenticate(t.Context(), Credential{Token: d.Token})
		require.ErrorIs(t, err, ErrUnauthenticated)
	}
	require.Zero(t, heard.count(Revocation{DeviceID: b.Device.ID, TokenID: b.Device.TokenID}))

	require.NoError(t, admin.Disable(t.Context(), "b"))
	eventually(t, heard.has(Revocation{DeviceID: b.Device.ID, Disabled: true}), "and hears again")
}

func TestEnablingTakesBackWhatWasNotActedOn(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, r := openAdmin(t, url), openRegistry(t, url, nil)
	heard := watch(r)
	d := add(t, admin, "a")
	openSession(t, r, d.Device)
	require.NoError(t, admin.Disable(t.Context(), "a"))
	eventually(t, heard.has(Revocation{DeviceID: d.Device.ID, Disabled: true}), "disabled")
	require.NoError(t, admin.Enable(t.Context(), "a"))
	eventually(t, func() bool { return len(r.book.overdue()) == 0 }, "the next session must not be hit")
}

func TestARevocationFindsASessionThatIsOpening(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	r := openRegistry(t, url, func(c *Config) { c.CheckEvery, c.Wait = time.Hour, 30*time.Second })
	heard := watch(r)
	a, b := add(t, admin, "a").Device, add(t, admin, "b").Device

	// The statement sees device a enabled, then waits for the lock on b.
	conn := sql(t, url)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT FROM mooring.devices WHERE id = $1 FOR UPDATE`, b.ID)
	require.NoError(t, err)
	batch := []*opening{
		{start: startOf(a), done: make(chan struct{})},
		{start: startOf(b), done: make(chan struct{})},
	}
	for _, o := range batch { // as if taken from the queue
		r.openings.byDevice[o.start.Device.ID] = append(r.openings.byDevice[o.start.Device.ID], o)
	}
	done := make(chan bool)
	go func() { done <- r.openBatch(t.Context(), batch) }()
	watcher := sql(t, url)
	eventually(t, func() bool {
		return scan[bool](t, watcher, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`)
	}, "the insertion waits")
	require.NoError(t, admin.Disable(t.Context(), "a"))
	eventually(t, func() bool { return metricValue(t, r.metrics.notifications.WithLabelValues("disabled")) == 1 }, "heard")
	require.NoError(t, tx.Commit(t.Context()))
	require.True(t, <-done)
	require.NoError(t, batch[0].err)
	eventually(t, heard.has(Revocation{DeviceID: a.ID, Disabled: true}), "checked once it is open")
	require.Zero(t, heard.count(Revocation{DeviceID: b.ID, Disabled: true}))
}

func TestANotificationIsNoVerdict(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	log := &queryLog{}
	r := openRegistry(t, url, func(c *Config) { c.CheckEvery, c.tracer = time.Hour, log })
	heard := watch(r)
	d := add(t, admin, "a")
	openSession(t, r, d.Device)
	conn := sql(t, url)
	forged := []string{
		fmt.Sprintf("disabled %d 0 0", d.Device.ID), fmt.Sprintf("removed %d 0 0", d.Device.ID),
		fmt.Sprintf("revoked %d %d 0", d.Device.ID, d.Device.TokenID), "", "rubbish", "revoked x y z", "newfangled 1 2 3",
	}
	for i, payload := range forged {
		exec(t, conn, `SELECT pg_notify('mooring_devices', $1)`, payload)
		if i < 3 {
			eventually(t, func() bool { return log.count("check sessions") > i }, "it is asked")
		}
	}
	eventually(t, func() bool { return metricValue(t, r.metrics.notifications.WithLabelValues("unknown")) == 4 }, "all heard")
	require.Empty(t, r.book.overdue())
	heard.mu.Lock()
	defer heard.mu.Unlock()
	require.Empty(t, heard.list)
}
