package devices

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

// A revoked certificate is none any more, for those who come and for those who
// are there; another one of the same device is.
func TestRevokedCertificate(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	r := openRegistry(t, url, func(c *Config) { c.CheckEvery = time.Hour }) // by NOTIFY alone
	heard := watch(r)
	id := add(t, admin, "boiler-7").Device.ID
	shown := Credential{Certificate: "boiler-7", Serial: "a1b2"}
	other := Credential{Certificate: "boiler-7", Serial: "a1b3"}
	device, err := r.Authenticate(t.Context(), shown)
	require.NoError(t, err)
	require.Equal(t, "a1b2", device.Serial)
	openSession(t, r, device)
	otherDevice, err := r.Authenticate(t.Context(), other)
	require.NoError(t, err)

	require.NoError(t, admin.RevokeCertificate(t.Context(), "boiler-7", "serial=00A1:B2"))
	eventually(t, heard.has(Revocation{DeviceID: id, Serial: "a1b2"}), "its session is to end")
	_, err = r.Authenticate(t.Context(), shown)
	require.ErrorIs(t, err, ErrUnauthenticated)
	_, err = r.OpenSession(t.Context(), startOf(device))
	require.ErrorIs(t, err, ErrUnauthenticated, "revoked since it was checked")
	_, err = r.Authenticate(t.Context(), other)
	require.NoError(t, err)
	openSession(t, r, otherDevice)
	require.Equal(t, "a1b3", scan[string](t, sql(t, url), `SELECT certificate FROM mooring.sessions ORDER BY id DESC LIMIT 1`))

	require.NoError(t, admin.RevokeCertificate(t.Context(), "boiler-7", "a1b2"), "again")
	require.NoError(t, admin.ReinstateCertificate(t.Context(), "boiler-7", "a1b2"))
	eventually(t, func() bool { _, err := r.Authenticate(t.Context(), shown); return err == nil }, "taken back")

	require.ErrorIs(t, admin.RevokeCertificate(t.Context(), "nobody", "1"), ErrNotFound)
	for _, bad := range []string{"", "xyz", "-1", "0x", "11111111111111111111111111111111111111111"} {
		var field *FieldError
		require.ErrorAs(t, admin.RevokeCertificate(t.Context(), "boiler-7", bad), &field, bad)
	}
}

// Whoever gets a name again does not get the old certificates with it.
func TestARevocationOutlivesTheDevice(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, r := openAdmin(t, url), openRegistry(t, url, nil)
	add(t, admin, "pump")
	require.NoError(t, admin.RevokeCertificate(t.Context(), "pump", "77"))
	require.NoError(t, admin.Remove(t.Context(), "pump", false))
	add(t, admin, "pump")
	_, err := r.Authenticate(t.Context(), Credential{Certificate: "pump", Serial: "77"})
	require.ErrorIs(t, err, ErrUnauthenticated)
	_, err = r.Authenticate(t.Context(), Credential{Certificate: "pump", Serial: "78"})
	require.NoError(t, err)
}

// A certificate that expires ends its session, as a token does; and so does a
// new name of the device, which the certificate does not have.
func TestACertificateEnds(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	r := openRegistry(t, url, func(c *Config) { c.CheckEvery = 100 * time.Millisecond })
	heard := watch(r)
	a, b := add(t, admin, "a").Device, add(t, admin, "b").Device
	_, err := r.Authenticate(t.Context(), Credential{Certificate: "a", Serial: "1", Expires: time.Now().Add(-time.Second).Unix()})
	require.ErrorIs(t, err, ErrUnauthenticated)
	soon, err := r.Authenticate(t.Context(), Credential{Certificate: "a", Serial: "2", Expires: time.Now().Add(10 * time.Second).Unix()})
	require.NoError(t, err)
	openSession(t, r, soon)
	later, err := r.Authenticate(t.Context(), Credential{Certificate: "b", Serial: "3", Expires: time.Now().Add(time.Hour).Unix()})
	require.NoError(t, err)
	openSession(t, r, later)
	eventually(t, heard.has(Revocation{DeviceID: a.ID, Serial: "2"}), "expired")
	require.Zero(t, heard.count(Revocation{DeviceID: b.ID, Serial: "3"}))
	exec(t, sql(t, url), `UPDATE mooring.devices SET name = 'c' WHERE name = 'b'`)
	eventually(t, heard.has(Revocation{DeviceID: b.ID, Serial: "3"}), "renamed")
}

func TestQuotaOfADevice(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	r := openRegistry(t, url, nil)
	d := add(t, admin, "a")
	rates := func() [2]int32 {
		device, err := r.Authenticate(t.Context(), Credential{Token: d.Token})
		require.NoError(t, err)
		byName, err := r.Authenticate(t.Context(), Credential{Certificate: "a", Serial: "1"})
		require.NoError(t, err)
		if device.RowRate != byName.RowRate || device.ByteRate != byName.ByteRate {
			return [2]int32{-99, -99}
		}
		return [2]int32{device.RowRate, device.ByteRate}
	}
	require.Equal(t, [2]int32{0, 0}, rates(), "as the server says")
	fifty, none := int32(50), int32(0)
	require.NoError(t, admin.SetQuota(t.Context(), "a", Quota{Rows: &fifty, Bytes: &none}))
	eventually(t, func() bool { return rates() == [2]int32{50, -1} }, "50 rows, any bytes")
	require.NoError(t, admin.SetQuota(t.Context(), "a", Quota{}))
	eventually(t, func() bool { return rates() == [2]int32{0, 0} }, "as the server says again")
	negative := int32(-1)
	require.Error(t, admin.SetQuota(t.Context(), "a", Quota{Rows: &negative}))
	require.ErrorIs(t, admin.SetQuota(t.Context(), "nobody", Quota{}), ErrNotFound)
}

// Who may ask for no more than what is in memory makes nobody look it up.
func TestOnlyWhatIsKnown(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	log := &queryLog{}
	r := openRegistry(t, url, func(c *Config) { c.tracer = log })
	d := add(t, admin, "a")
	_, err := r.Authenticate(t.Context(), Credential{Token: d.Token, OnlyKnown: true})
	require.ErrorIs(t, err, ErrNotKnown)
	require.Zero(t, log.count("authenticate"))
	_, err = r.Authenticate(t.Context(), Credential{Token: d.Token})
	require.NoError(t, err)
	_, err = r.Authenticate(t.Context(), Credential{Token: d.Token, OnlyKnown: true})
	require.NoError(t, err)
	require.Equal(t, 1, log.count("authenticate"))
}
