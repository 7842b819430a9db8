package devices

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

func TestAddRefusesWithFieldAndLimit(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	add(t, admin, "a")
	_, _, err := admin.Add(t.Context(), NewDevice{Name: "a"})
	require.ErrorIs(t, err, ErrExists)
	require.ErrorContains(t, err, "a")
	for field, device := range map[string]NewDevice{
		"name":     {Name: "a b"},
		"model":    {Name: "b", Model: strings.Repeat("x", 65)},
		"labels":   {Name: "b", Labels: map[string]string{"k": strings.Repeat("x", MaxLabels)}},
		"lifetime": {Name: "b", TokenLifetime: -1},
	} {
		_, _, err := admin.Add(t.Context(), device)
		var wrong *FieldError
		require.ErrorAs(t, err, &wrong, field)
		require.Equal(t, field, wrong.Field)
	}
	for field, devices := range map[string]NewDevices{
		"count": {Prefix: "x"},
		"first": {Prefix: "x", Count: 1, First: -1},
		"name":  {Prefix: "x ", Count: 1},
	} {
		_, err := admin.AddMany(t.Context(), devices)
		var wrong *FieldError
		require.ErrorAs(t, err, &wrong, field)
		require.Equal(t, field, wrong.Field)
	}
	_, err = admin.AddMany(t.Context(), NewDevices{Prefix: "x", Count: MaxCount + 1})
	require.ErrorContains(t, err, "1000000")
}

func TestTokensAreNotStored(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, conn := openAdmin(t, url), sql(t, url)
	d := add(t, admin, "a")
	require.True(t, scan[bool](t, conn, `SELECT hash = sha256(convert_to($1, 'UTF8')) FROM mooring.tokens`, d.Token))
	require.False(t, scan[bool](t, conn, `SELECT t::text LIKE '%' || $1 || '%' FROM mooring.tokens t`, d.Token))
}

func TestAddManyIsAllOrNothing(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, conn := openAdmin(t, url), sql(t, url)
	const count = maxAdd + 50 // more than one statement
	began := time.Now()
	added, err := admin.AddMany(t.Context(), NewDevices{Prefix: "sim-", Count: count, Model: "sim", Labels: map[string]string{"room": "17"}})
	require.NoError(t, err)
	t.Logf("%d devices in %v", count, time.Since(began).Round(time.Millisecond))
	require.Len(t, added, count)
	for i, a := range added {
		require.Equal(t, fmt.Sprintf("sim-%05d", i+1), a.Device.Name)
		require.NotZero(t, a.Device.TokenID)
	}
	last := added[count-1]
	key := tokenKey(last.Token)
	require.Equal(t, last.Device.ID, scan[int32](t, conn, `SELECT device_id FROM mooring.tokens WHERE hash = $1 AND id = $2`, key[:], last.Device.TokenID))

	_, err = admin.AddMany(t.Context(), NewDevices{Prefix: "sim-", First: count - 1, Count: 90})
	require.ErrorIs(t, err, ErrExists)
	require.ErrorContains(t, err, "sim-10049")
	require.Equal(t, count, scan[int](t, conn, `SELECT count(*) FROM mooring.devices`))
	more, err := admin.AddMany(t.Context(), NewDevices{Prefix: "sim-", First: count + 1, Count: 2})
	require.NoError(t, err)
	require.Equal(t, "sim-10052", more[1].Device.Name)
}

func TestListFiltersAndPages(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, r := openAdmin(t, url), openRegistry(t, url, nil)
	added, err := admin.AddMany(t.Context(), NewDevices{Prefix: "a-", Count: 9, Labels: map[string]string{"k": "v"}})
	require.NoError(t, err)
	add(t, admin, "b-1")
	add(t, admin, "a_") // LIKE would take _ for any character
	openSession(t, r, added[2].Device)
	require.NoError(t, admin.Disable(t.Context(), "a-4"))
	yes, no := true, false
	names := func(f Filter) (names []string) {
		t.Helper()
		list, err := admin.List(t.Context(), f)
		require.NoError(t, err)
		for _, d := range list {
			names = append(names, d.Name)
		}
		return names
	}
	require.Len(t, names(Filter{}), 11)
	require.Len(t, names(Filter{Prefix: "a-"}), 9)
	require.Equal(t, []string{"a_"}, names(Filter{Prefix: "a_"}))
	require.Equal(t, []string{"a-3"}, names(Filter{Online: &yes}))
	require.Len(t, names(Filter{Online: &no}), 10)
	require.Equal(t, []string{"a-4"}, names(Filter{Disabled: &yes}))
	require.Equal(t, []string{"a-1", "a-2", "a-3", "a-4"}, names(Filter{Prefix: "a-", Limit: 4}))
	require.Equal(t, []string{"a-5", "a-6", "a-7", "a-8"}, names(Filter{Prefix: "a-", Limit: 4, After: "a-4"}))
	require.Equal(t, []string{"a-9"}, names(Filter{Prefix: "a-", Limit: 4, After: "a-8"}))
	_, err = admin.List(t.Context(), Filter{Limit: MaxPage + 1})
	require.ErrorContains(t, err, "limit")

	list, err := admin.List(t.Context(), Filter{Prefix: "a-", Limit: 4})
	require.NoError(t, err)
	require.Equal(t, map[string]any{"k": "v"}, list[0].Labels)
	require.True(t, list[0].LastSeen.IsZero())
	require.True(t, list[2].Online)
	require.WithinDuration(t, time.Now(), list[2].LastSeen, time.Minute)
	require.True(t, list[3].Disabled)
}

func TestShow(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	device, _, err := admin.Add(t.Context(), NewDevice{Name: "a", Model: "M1"})
	require.NoError(t, err)
	rotated, _, err := admin.Rotate(t.Context(), "a", Rotation{Label: "spring"})
	require.NoError(t, err)
	n, err := admin.Revoke(t.Context(), "a", device.TokenID)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	n, err = admin.Revoke(t.Context(), "a", device.TokenID)
	require.NoError(t, err)
	require.Zero(t, n, "it was revoked before")

	detail, err := admin.Show(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, device.ID, detail.ID)
	require.Equal(t, "M1", detail.Model)
	require.Nil(t, detail.Last)
	require.Len(t, detail.Tokens, 2)
	require.Equal(t, rotated.TokenID, detail.Tokens[0].ID)
	require.Equal(t, "spring", detail.Tokens[0].Label)
	require.True(t, detail.Tokens[0].Live)
	require.False(t, detail.Tokens[1].Live)
	require.False(t, detail.Tokens[1].RevokedAt.IsZero())

	_, err = admin.Show(t.Context(), "nobody")
	require.ErrorIs(t, err, ErrNotFound)
	_, err = admin.Revoke(t.Context(), "nobody", 0)
	require.ErrorIs(t, err, ErrNotFound)
	require.ErrorIs(t, admin.Enable(t.Context(), "nobody"), ErrNotFound)
	require.ErrorIs(t, admin.Remove(t.Context(), "nobody", false), ErrNotFound)
	require.ErrorIs(t, admin.Remove(t.Context(), "nobody", true), ErrNotFound)
}

func TestRemoveKeepsReadingsUnlessPurged(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin, conn, r := openAdmin(t, url), sql(t, url), openRegistry(t, url, nil)
	a, b := add(t, admin, "a").Device, add(t, admin, "b").Device
	r.EndSession(endOf(openSession(t, r, a), "done"))
	exec(t, conn, `CREATE TABLE mooring.samples_test PARTITION OF mooring.samples FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')`)
	for _, d := range []Device{a, b} {
		exec(t, conn, `INSERT INTO mooring.samples (ts, seq, device_id, layout_id, vals) VALUES ('2020-01-01 12:00:00+00', 1, $1, 1, '{1}')`, d.ID)
	}
	require.ErrorIs(t, admin.Remove(t.Context(), "a", false), ErrHasReadings)
	_, err := admin.Show(t.Context(), "a")
	require.NoError(t, err)

	require.NoError(t, admin.Remove(t.Context(), "a", true))
	require.Equal(t, b.ID, scan[int32](t, conn, `SELECT device_id FROM mooring.samples`))
	require.Equal(t, 0, scan[int](t, conn, `SELECT count(*) FROM mooring.sessions`))
	require.Equal(t, 1, scan[int](t, conn, `SELECT count(*) FROM mooring.tokens`))
	exec(t, conn, `DELETE FROM mooring.samples`)
	require.NoError(t, admin.Remove(t.Context(), "b", false))
	require.Equal(t, 0, scan[int](t, conn, `SELECT count(*) FROM mooring.devices`))
}
