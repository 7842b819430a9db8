package app

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// lines is a log that several may write to and read.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestFailedHandshakesAreLogged: an operator learns of it at the usual level, not
// for each device of a fleet.
func TestFailedHandshakesAreLogged(t *testing.T) {
	t.Parallel()
	files, log := newTLSFiles(t), new(lines)
	cfg := files.config(t)
	cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
	a := startApp(t, cfg)
	silent, err := net.Dial("tcp", a.Addr())
	require.NoError(t, err)
	require.NoError(t, silent.Close())
	require.Eventually(t, func() bool { return count(t, a.tlsFailures) >= 1 }, time.Minute, 10*time.Millisecond)
	require.NotContains(t, log.String(), "handshake", "a balancer that looks whether somebody is there")
	for range 2 {
		_, err = tls.Dial("tcp", a.Addr(), &tls.Config{RootCAs: files.roots, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
		require.ErrorContains(t, err, "protocol version")
	}
	require.Eventually(t, func() bool { return count(t, a.tlsFailures) >= 3 }, time.Minute, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		return strings.Contains(log.String(), `level=WARN msg="TLS handshake failed" remote=127.0.0.1:`)
	}, time.Minute, 10*time.Millisecond)
	require.Contains(t, log.String(), "supported versions")
}

func TestHandshakesAreLoggedSeldom(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	handler := newServerLog(slog.NewTextHandler(&log, nil), prometheus.NewCounter(prometheus.CounterOpts{Name: "x"}))
	begun := time.Unix(1000, 0)
	for i := range 25 { // one a second
		record := slog.NewRecord(begun.Add(time.Duration(i)*time.Second), slog.LevelDebug, handshakeFailed+"[2001:db8::1]:5: remote error: tls: bad certificate", 0)
		require.NoError(t, handler.Handle(t.Context(), record))
	}
	require.InDelta(t, 25, count(t, handler.tlsFailures), 0)
	said := strings.Split(strings.TrimSpace(log.String()), "\n")
	require.Len(t, said, 3)
	require.Contains(t, said[0], `remote=[2001:db8::1]:5 error="remote error: tls: bad certificate" others=0`)
	require.Contains(t, said[1], "others=9")
	require.Contains(t, said[2], "others=9")
}
