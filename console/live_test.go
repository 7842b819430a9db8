package console

import (
	"bufio"
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/console/live"
	"mooring/devices"
	"mooring/internal/pgtest"
	"mooring/storage"
)

// nothing is a store that commits nothing.
type nothing struct{}

func (nothing) Watch(map[int32]struct{}) {}
func (nothing) Take(func(storage.News))  {}

// serveLive serves LivePath; ofUser is how often a user may look on, 0: the default.
func (s *stage) serveLive(ofUser int) *httptest.Server {
	s.Helper()
	reader, err := storage.OpenReader(s.Context(), pgtest.ReaderURL(s.T, s.dbURL))
	require.NoError(s, err)
	s.Cleanup(reader.Close)
	hub, err := live.New(live.Config{
		Devices: s.admin, Readings: reader, Committed: nothing{}, Gateway: "here", Command: EncodeCommand,
		MaxOfUser: ofUser, Logger: slog.New(slog.NewTextHandler(s.Output(), nil)),
	})
	require.NoError(s, err)
	hub.Start()
	s.api.cfg.Live = hub
	server := httptest.NewServer(http.HandlerFunc(s.api.ServeLive))
	s.Cleanup(func() {
		require.NoError(s, hub.Stop(context.Background()))
		server.Close()
	})
	return server
}

// TestOneUserLooksOnTooOften: it is told so, as of other limits, and others look on.
func TestOneUserLooksOnTooOften(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	server := s.serveLive(1)
	look := func(role devices.Role) (status int, header http.Header) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+LivePath, http.NoBody)
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer "+s.tokens[role])
		response, err := server.Client().Do(request)
		require.NoError(t, err)
		t.Cleanup(func() { _ = response.Body.Close() }) // until then it looks on
		return response.StatusCode, response.Header
	}
	first, _ := look(devices.RoleViewer)
	require.Equal(t, http.StatusOK, first)
	refused, header := look(devices.RoleViewer)
	require.Equal(t, http.StatusTooManyRequests, refused)
	require.Equal(t, "10", header.Get("Retry-After"))
	require.Equal(t, "application/problem+json", header.Get("Content-Type"))
	other, _ := look(devices.RoleAdmin)
	require.Equal(t, http.StatusOK, other)
}

// TestWhoMayLookOn: a token, or a cookie that comes along with no page of
// another origin; and no longer than it is good.
func TestWhoMayLookOn(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	server := s.serveLive(0)
	_, cookie, err := s.admin.Login(t.Context(), s.tokens[devices.RoleViewer])
	require.NoError(t, err)
	host := strings.TrimPrefix(server.URL, "http://")

	for name, c := range map[string]struct {
		method string
		query  string
		header http.Header
		want   int
	}{
		"token":                         {header: http.Header{"Authorization": {"Bearer " + s.tokens[devices.RoleViewer]}}, want: 200},
		"an admin's token":              {header: http.Header{"Authorization": {"bearer " + s.tokens[devices.RoleAdmin]}}, want: 200},
		"cookie":                        {header: http.Header{"Cookie": {cookieName + "=" + cookie}}, want: 200},
		"cookie, same origin":           {header: http.Header{"Cookie": {cookieName + "=" + cookie}, "Origin": {"http://" + host}}, want: 200},
		"cookie, other origin":          {header: http.Header{"Cookie": {cookieName + "=" + cookie}, "Origin": {"http://evil.test"}}, want: 403},
		"cookie, no origin to speak of": {header: http.Header{"Cookie": {cookieName + "=" + cookie}, "Origin": {"null"}}, want: 403},
		"cookie, two origins":           {header: http.Header{"Cookie": {cookieName + "=" + cookie}, "Origin": {"http://" + host, "http://" + host}}, want: 403},
		"token, other origin":           {header: http.Header{"Authorization": {"Bearer " + s.tokens[devices.RoleViewer]}, "Origin": {"http://evil.test"}}, want: 200},
		"nobody":                        {want: 401},
		"wrong token":                   {header: http.Header{"Authorization": {"Bearer mu_wrong"}}, want: 401},
		"filter":                        {query: "?every=1ns", header: http.Header{"Authorization": {"Bearer " + s.tokens[devices.RoleViewer]}}, want: 422},
		"method":                        {method: http.MethodPost, want: 405},
		"upgrade without a key":         {header: http.Header{"Authorization": {"Bearer " + s.tokens[devices.RoleViewer]}, "Connection": {"Upgrade"}, "Upgrade": {"websocket"}}, want: 400},
	} {
		method := c.method
		if method == "" {
			method = http.MethodGet
		}
		request, err := http.NewRequestWithContext(t.Context(), method, server.URL+LivePath+c.query, http.NoBody)
		require.NoError(t, err)
		maps.Copy(request.Header, c.header)
		response, err := server.Client().Do(request)
		require.NoError(t, err, name)
		require.Equal(t, c.want, response.StatusCode, name)
		if c.want == http.StatusOK {
			line, err := bufio.NewReader(response.Body).ReadString('\n')
			require.NoError(t, err, name)
			require.Equal(t, "retry: 2000\n", line)
		} else {
			require.Equal(t, "application/problem+json", response.Header.Get("Content-Type"), name)
		}
		require.NoError(t, response.Body.Close())
	}

	// Who was let in is asked about again.
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, LivePath, http.NoBody)
	request.Header.Set("Cookie", cookieName+"="+cookie)
	user, err := s.api.viewer(request)
	require.NoError(t, err)
	require.NoError(t, s.api.mayGoOn(t.Context(), request, user))
	require.NoError(t, s.admin.Logout(t.Context(), cookie))
	require.ErrorIs(t, s.api.mayGoOn(t.Context(), request, user), errLoggedOut)
}
