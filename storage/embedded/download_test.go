//go:build linux || darwin

package embedded

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// mavenRepository serves an archive as Maven Central does; damaged makes its
// checksum wrong.
func mavenRepository(t *testing.T, damaged bool) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", "postgres.txz"))
	require.NoError(t, err)
	var archive bytes.Buffer
	writer := zip.NewWriter(&archive)
	entry, err := writer.Create("postgres.txz")
	require.NoError(t, err)
	_, err = entry.Write(content)
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	sum := sha256.Sum256(archive.Bytes())
	if damaged {
		sum[0]++
	}
	server := httptest.NewServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		switch path := request.URL.Path; {
		case strings.HasSuffix(path, "-18.3.0.jar.sha256"):
			_, _ = response.Write([]byte(hex.EncodeToString(sum[:])))
		case strings.HasSuffix(path, "-18.3.0.jar"):
			_, _ = response.Write(archive.Bytes())
		default:
			http.NotFound(response, request)
		}
	}))
	t.Cleanup(func() {
		server.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return server.URL
}

func fetchInto(t *testing.T, repository, cache string) (string, error) {
	t.Helper()
	config, err := Config{DataDir: cache, Download: repository}.withDefaults()
	require.NoError(t, err)
	c := &Cluster{config: config, logger: config.Logger}
	target := filepath.Join(cache, "postgresql")
	return target, c.fetch(t.Context(), downloads[newestMajor], cache, target)
}

func TestDownload(t *testing.T) { //nolint:paralleltest // sets TMPDIR
	t.Setenv("TMPDIR", t.TempDir()) // the library leaves an empty file there
	cache := publicDir(t)
	target, err := fetchInto(t, mavenRepository(t, false), cache)
	require.NoError(t, err)
	look := search{}
	installation, err := look.inspect(t.Context(), filepath.Join(target, "bin"))
	require.NoError(t, err)
	require.Equal(t, Installation{BinDir: filepath.Join(target, "bin"), Version: "18.3", Major: 18}, installation)
	info, err := os.Stat(filepath.Join(target, "share", "postgres.bki"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o644), info.Mode().Perm(), "the user who runs Postgres can read it")
	entries, err := os.ReadDir(cache)
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing else is left")
}

func TestDownloadFails(t *testing.T) { //nolint:paralleltest // sets TMPDIR
	t.Setenv("TMPDIR", t.TempDir()) // the library leaves an empty file there
	missing := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(missing.Close)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for name, test := range map[string]struct{ repository, reason string }{
		"damaged":     {mavenRepository(t, true), "downloaded checksums do not match"},
		"not there":   {missing.URL, "no version found matching 18.3.0"},
		"unreachable": {gone.URL, "connection refused"},
	} {
		cache := publicDir(t)
		target, err := fetchInto(t, test.repository, cache)
		require.ErrorContains(t, err, test.reason, name)
		require.False(t, exists(target), name)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestDownloadEndsWithContext(t *testing.T) { //nolint:paralleltest // sets TMPDIR
	t.Setenv("TMPDIR", t.TempDir()) // the library leaves an empty file there
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		if request.Method != http.MethodHead {
			<-release
		}
	}))
	ctx, cancel := context.WithCancel(t.Context())
	c := &Cluster{config: Config{Download: server.URL}, logger: slog.New(slog.DiscardHandler)}
	cache := publicDir(t)
	result := make(chan error, 1)
	go func() { result <- c.fetch(ctx, downloads[newestMajor], cache, filepath.Join(cache, "postgresql")) }()
	cancel()
	require.ErrorIs(t, <-result, context.Canceled)
	close(release)
	server.Close()
	http.DefaultClient.CloseIdleConnections()
	waitUntil(t, func() bool {
		entries, err := os.ReadDir(cache)
		return err == nil && len(entries) == 0
	})
}
