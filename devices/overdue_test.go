package devices

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Revocations are repeated while a session is open that should end, and the
// book forgets the device once there is none.
func TestOverdueLooksAtRevokedDevicesOnly(t *testing.T) {
	t.Parallel()
	b := newBook(time.Minute)
	for i := range int32(3) {
		b.open(int64(i)+1, &SessionStart{Device: Device{ID: i}})
	}
	require.True(t, b.revokeSession(2, Revocation{DeviceID: 1}))
	require.True(t, b.revokeSession(3, Revocation{DeviceID: 2, Disabled: true}))
	require.Len(t, b.overdue(), 2)
	require.Len(t, b.overdue(), 2, "again and again")
	b.pardon(2)
	require.Equal(t, []Revocation{{DeviceID: 1}}, b.overdue())
	b.open(9, &SessionStart{Device: Device{ID: 1}})
	require.Empty(t, b.overdue(), "a newer session has replaced it")
	require.Len(t, b.marked, 1, "the older one is still open")
	require.True(t, b.end(SessionEnd{SessionProgress: SessionProgress{Session: 2}}))
	require.Empty(t, b.overdue())
	require.Empty(t, b.marked)
	require.True(t, b.revokeSession(9, Revocation{DeviceID: 1}))
	require.Len(t, b.overdue(), 1)
}
