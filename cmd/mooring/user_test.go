package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestUserAsksAPI adds a user and asks a running server's API as that user.
func TestUserAsksAPI(t *testing.T) {
	t.Parallel()
	address, data := freeAddress(t), dataDirectory(t)
	server := start(t, "serve", "--listen", address, "--data-dir", data)
	server.says("mooring serves")
	user := func(args ...string) result {
		return mooring(t, append(append([]string{"user"}, args...), "--data-dir", data)...)
	}
	added := user("add", "ann", "--role", "operator")
	require.Equal(t, exitDone, added.code, added)
	token := strings.TrimSpace(added.stdout)
	require.Equal(t, exitExists, user("add", "ann").code)
	require.Contains(t, user("list").stdout, "operator")

	ask := func(token string) int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/api/v1/devices", nil)
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}
	require.Equal(t, http.StatusOK, ask(token))

	link := user("link", "ann", "--server", "http://"+address+"/")
	require.Equal(t, exitDone, link.code, link)
	require.Regexp(t, `^http://`+address+`/#login=mru_\S+\n$`, link.stdout)
	require.NotContains(t, link.stderr, "Assuming")

	// The server's own file or environment says where it listens; nothing says more.
	file := filepath.Join(t.TempDir(), "mooring.yaml")
	require.NoError(t, os.WriteFile(file, []byte("listen: \":9123\"\ntls-cert: /etc/mooring/cert.pem\n"), 0o600))
	link = user("link", "ann", "--config", file)
	require.Equal(t, exitDone, link.code, link)
	require.Regexp(t, `^https://localhost:9123/#login=mru_\S+\n$`, link.stdout)
	require.Contains(t, link.stderr, "Assuming that the browser reaches the server at https://localhost:9123; if not: --server URL")
	link = user("link", "ann", "--json")
	require.Contains(t, link.stdout, `"http://localhost:8080/#login=mru_`)
	require.Contains(t, link.stderr, "http://localhost:8080; if not")
	require.Equal(t, exitNoDevice, user("link", "nobody").code)
	require.Equal(t, exitUsage, user("link", "ann", "--server", "localhost").code)
	rotated := user("rotate", "ann")
	require.Equal(t, exitDone, rotated.code)
	require.Equal(t, http.StatusUnauthorized, ask(token))
	require.Equal(t, http.StatusOK, ask(strings.TrimSpace(rotated.stdout)))
	require.Equal(t, exitDone, user("remove", "ann").code)
	require.Equal(t, http.StatusUnauthorized, ask(strings.TrimSpace(rotated.stdout)))
	require.Equal(t, exitNoDevice, user("remove", "ann").code)
	require.Equal(t, exitNoDevice, user("rotate", "ann").code)
	require.Equal(t, exitUsage, user("add", "b b").code)
	require.Equal(t, exitUsage, user("add", "bob", "--role", "king").code)
}
