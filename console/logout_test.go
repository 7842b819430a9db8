package console

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/devices"
)

// TestLogoutIsBounded: anybody may ask for a logout, and so it costs the database
// nothing unless a session could be meant, and no more often than wrong tokens do.
func TestLogoutIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := newStage(t)
	s.api.limits.now = func() time.Time { return now } // nothing is granted anew
	logout := func(session string) answer {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.server.URL+Prefix+"/logout", http.NoBody)
		require.NoError(t, err)
		if session != "" {
			request.AddCookie(&http.Cookie{Name: cookieName, Value: session})
		}
		return s.do(s.server.Client(), request)
	}
	session := func() string {
		_, secret, err := s.admin.Login(t.Context(), s.tokens[devices.RoleViewer])
		require.NoError(t, err)
		return secret
	}
	mine, ended := session(), session()
	require.NoError(t, s.admin.Logout(t.Context(), ended))

	for range 2 * failuresAtOnce {
		require.Equal(t, http.StatusNoContent, logout("").status, "without a cookie nothing is asked")
	}
	require.Equal(t, http.StatusNoContent, logout(mine).status, "nor did that count")
	for i := range failuresAtOnce {
		got := logout([]string{ended, strings.Repeat("x", 60)}[i%2])
		require.Equal(t, http.StatusNoContent, got.status, got.body)
		require.Contains(t, got.header.Get("Set-Cookie"), cookieName+"=;", "the cookie is taken back")
	}
	refused := logout(ended)
	s.requireProblem(refused, http.StatusTooManyRequests, "too many wrong tokens")
	require.Equal(t, "6", refused.header.Get("Retry-After"))
	s.requireProblem(s.ask("", http.MethodPost, "/login", map[string]string{"token": "x"}), 429, "too many wrong tokens")

	s.admin.Close() // who asks it now, is told so
	require.ErrorIs(t, s.admin.Logout(context.WithoutCancel(t.Context()), strings.Repeat("x", 60)), devices.ErrUnauthenticated)
}
