package devices

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/wire"
)

// followed is what a follower of presence was told.
type followed struct {
	mu      sync.Mutex
	history map[int32][]PresenceChange
}

// follow starts a follower and returns once it knows all devices.
func follow(t *testing.T, admin *Admin) *followed {
	t.Helper()
	f := &followed{history: make(map[int32][]PresenceChange)}
	ctx, cancel := context.WithCancel(t.Context())
	synced, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- admin.FollowPresence(ctx, func() { close(synced) }, func(changes []PresenceChange) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, c := range changes {
				f.history[c.DeviceID] = append(f.history[c.DeviceID], c)
			}
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
	})
	select {
	case <-synced:
	case <-time.After(patience):
		require.Fail(t, "never synced")
	}
	return f
}

func (f *followed) of(device int32) []PresenceChange {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.history[device])
}

// await waits until the last thing told of a device is as wanted.
func (f *followed) await(t *testing.T, device int32, what string, wanted func(PresenceChange) bool) PresenceChange {
	t.Helper()
	var last PresenceChange
	eventually(t, func() bool {
		list := f.of(device)
		if len(list) > 0 {
			last = list[len(list)-1]
		}
		return len(list) > 0 && wanted(last)
	}, what)
	return last
}

func TestFollowPresence(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, conn := openAdmin(t, url), sql(t, url)
	r := openRegistry(t, url, func(c *Config) { c.Lease = time.Hour })
	a, b := add(t, admin, "a").Device, add(t, admin, "b").Device
	before := openSession(t, r, b)
	f := follow(t, admin)
	require.Equal(t, []PresenceChange{{DeviceID: a.ID, Device: "a", Reason: "it never connected"}}, f.of(a.ID))
	require.True(t, f.of(b.ID)[0].Online)
	require.Equal(t, before, f.of(b.ID)[0].Session)

	begun := time.Now()
	session := openSession(t, r, a)
	now := f.await(t, a.ID, "online", func(c PresenceChange) bool { return c.Online })
	require.Equal(t, session, now.Session)
	require.Equal(t, "connected to gateway-1 from 192.0.2.7:4711", now.Reason)
	require.WithinRange(t, now.Since, begun.Truncate(time.Microsecond), time.Now())
	r.EndSession(SessionEnd{
		SessionProgress: SessionProgress{Session: session}, Disconnected: time.Now(), Code: wire.CloseHeartbeat, Reason: "nothing was heard",
	})
	require.Equal(t, "nothing was heard", f.await(t, a.ID, "offline", func(c PresenceChange) bool { return !c.Online }).Reason)

	// What is heard no more is told all the same.
	require.Positive(t, scan[int](t, conn, `
SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND (query LIKE 'LISTEN mooring_presence%' OR query LIKE '%FROM mooring.device_status%')`))
	session = openSession(t, r, a)
	f.await(t, a.ID, "online again", func(c PresenceChange) bool { return c.Online && c.Session == session })

	// A server that dies tells nobody, and nobody is left to close its sessions.
	kill(r)
	endLease(t, conn, r)
	gone := f.await(t, a.ID, "offline after the lease", func(c PresenceChange) bool { return !c.Online })
	require.Equal(t, "its server gateway-1 is gone", gone.Reason)
	require.NoError(t, admin.Remove(t.Context(), "a", false))
	require.Equal(t, "the device was removed", f.await(t, a.ID, "removed", func(c PresenceChange) bool { return c.Removed }).Reason)
	require.Len(t, f.of(a.ID), 6, "%v", f.of(a.ID))
}

func TestAFollowerMayEnd(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	add(t, admin, "a")
	enough := errors.New("enough")
	require.Equal(t, enough, admin.FollowPresence(t.Context(), func() {}, func([]PresenceChange) error { return enough }))
}
