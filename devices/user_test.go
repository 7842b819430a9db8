package devices

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

func TestUsers(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	a := openAdmin(t, url)
	ann, token, err := a.AddUser(t.Context(), "ann", RoleOperator)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(token, "mru_"))
	known, err := a.AuthenticateUser(t.Context(), token)
	require.NoError(t, err)
	require.Equal(t, ann, known)

	_, _, err = a.AddUser(t.Context(), "ann", RoleViewer)
	require.ErrorIs(t, err, ErrUserExists)
	for _, bad := range [][2]string{{"", "admin"}, {"bob", "king"}, {"b b", "admin"}} {
		_, _, err := a.AddUser(t.Context(), bad[0], Role(bad[1]))
		var field *FieldError
		require.ErrorAs(t, err, &field, "%v", bad)
	}
	conn := sql(t, url)
	require.Zero(t, scan[int](t, conn, `SELECT count(*) FROM mooring.user_credentials c, mooring.users u
		WHERE position($1 IN c::text || u::text) > 0`, token), "the token itself is stored nowhere")

	// A device's token is none of a user, and the other way round.
	device := add(t, a, "valve")
	_, err = a.AuthenticateUser(t.Context(), device.Token)
	require.ErrorIs(t, err, ErrUnauthenticated)
	r := openRegistry(t, url, nil)
	_, err = r.Authenticate(t.Context(), Credential{Token: token})
	require.ErrorIs(t, err, ErrUnauthenticated)

	renewed, err := a.RotateUser(t.Context(), "ann")
	require.NoError(t, err)
	_, err = a.AuthenticateUser(t.Context(), token)
	require.ErrorIs(t, err, ErrUnauthenticated)
	_, err = a.AuthenticateUser(t.Context(), renewed)
	require.NoError(t, err)

	list, err := a.Users(t.Context())
	require.NoError(t, err)
	require.Equal(t, []User{ann}, list)
	require.NoError(t, a.RemoveUser(t.Context(), "ann"))
	_, err = a.AuthenticateUser(t.Context(), renewed)
	require.ErrorIs(t, err, ErrUnauthenticated)
	require.ErrorIs(t, a.RemoveUser(t.Context(), "ann"), ErrNoUser)
	_, err = a.RotateUser(t.Context(), "ann")
	require.ErrorIs(t, err, ErrNoUser)
	_, err = a.NewLink(t.Context(), "ann")
	require.ErrorIs(t, err, ErrNoUser)
}

func TestLogin(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	a := openAdmin(t, url)
	conn := sql(t, url)
	_, token, err := a.AddUser(t.Context(), "ann", RoleViewer)
	require.NoError(t, err)

	link, err := a.NewLink(t.Context(), "ann")
	require.NoError(t, err)
	_, err = a.AuthenticateUser(t.Context(), link)
	require.ErrorIs(t, err, ErrUnauthenticated, "a link only logs in")
	_, session, err := a.Login(t.Context(), link)
	require.NoError(t, err)
	_, _, err = a.Login(t.Context(), link)
	require.ErrorIs(t, err, ErrUnauthenticated, "once")
	user, err := a.AuthenticateUser(t.Context(), session)
	require.NoError(t, err)
	require.Equal(t, RoleViewer, user.Role)
	_, _, err = a.Login(t.Context(), session)
	require.ErrorIs(t, err, ErrUnauthenticated, "a session makes no further ones")

	require.NoError(t, a.Logout(t.Context(), session))
	require.ErrorIs(t, a.Logout(t.Context(), session), ErrUnauthenticated, "ended before")
	require.ErrorIs(t, a.Logout(t.Context(), token), ErrUnauthenticated, "not a session")
	_, err = a.AuthenticateUser(t.Context(), session)
	require.ErrorIs(t, err, ErrUnauthenticated)
	_, err = a.AuthenticateUser(t.Context(), token)
	require.NoError(t, err)

	for range maxUserSessions + 3 {
		_, _, err := a.Login(t.Context(), token)
		require.NoError(t, err)
	}
	count := `SELECT count(*) FROM mooring.user_credentials WHERE kind = 'session'`
	require.Equal(t, maxUserSessions, scan[int](t, conn, count))
	_, session, err = a.Login(t.Context(), token)
	require.NoError(t, err)
	expired, err := a.NewLink(t.Context(), "ann")
	require.NoError(t, err)
	exec(t, conn, `UPDATE mooring.user_credentials SET expires_at = now() - interval '1 second' WHERE kind <> 'token'`)
	_, err = a.AuthenticateUser(t.Context(), session)
	require.ErrorIs(t, err, ErrUnauthenticated)
	_, _, err = a.Login(t.Context(), expired)
	require.ErrorIs(t, err, ErrUnauthenticated)
	_, _, err = a.Login(t.Context(), token)
	require.NoError(t, err)
	require.Equal(t, 1, scan[int](t, conn, count), "what expired is tidied away")
}

func TestRoles(t *testing.T) {
	t.Parallel()
	require.True(t, RoleAdmin.May(RoleViewer))
	require.True(t, RoleOperator.May(RoleOperator))
	require.False(t, RoleViewer.May(RoleOperator))
	require.False(t, Role("").May(RoleViewer))
	require.False(t, RoleAdmin.May(""))
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	a := openAdmin(t, pgtest.URL(t))
	add(t, a, "valve")
	model := "v2"
	require.NoError(t, a.Describe(t.Context(), "valve", Change{Model: &model, Labels: map[string]string{"site": "oslo"}}))
	require.NoError(t, a.Describe(t.Context(), "valve", Change{}))
	list, err := a.List(t.Context(), Filter{Model: "v2", Labels: map[string]string{"site": "oslo"}})
	require.NoError(t, err)
	require.Len(t, list, 1)
	none, err := a.List(t.Context(), Filter{Labels: map[string]string{"site": "rome"}})
	require.NoError(t, err)
	require.Empty(t, none)
	empty := ""
	require.NoError(t, a.Describe(t.Context(), "valve", Change{Model: &empty, Labels: map[string]string{}}))
	list, err = a.List(t.Context(), Filter{})
	require.NoError(t, err)
	require.Empty(t, list[0].Model)
	require.Empty(t, list[0].Labels)
	require.ErrorIs(t, a.Describe(t.Context(), "nobody", Change{}), ErrNotFound)
	long := strings.Repeat("x", MaxModel+1)
	require.Error(t, a.Describe(t.Context(), "valve", Change{Model: &long}))
}
