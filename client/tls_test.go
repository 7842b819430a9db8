package client_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/client"
	"mooring/wire"
)

func TestTLSAndBasicCredential(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, token, _ := r.BasicAuth(); name != "boiler" || token != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		acknowledgeAll(w, r)
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // it is told of what is meant to fail
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	connect := func(config *tls.Config, name string) (*client.Client, chan client.Event, func()) {
		events := make(chan client.Event, 16)
		device, err := client.New(client.Config{
			URL: "wss" + strings.TrimPrefix(server.URL, "https"), Name: name, Token: "secret", TLS: config,
			OnEvent: func(event client.Event) { events <- event },
		})
		require.NoError(t, err)
		_, err = device.Layout("boiler", []wire.Channel{{Name: "x"}})
		require.NoError(t, err)
		_, err = device.Append(0, time.Now(), wire.Value{})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = device.Run(ctx)
		}()
		return device, events, func() {
			cancel()
			<-done
		}
	}

	device, _, stop := connect(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, "boiler")
	require.NoError(t, device.WaitAcked(t.Context()))
	stop()

	_, events, stop := connect(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, "other")
	event := <-events
	require.Equal(t, http.StatusUnauthorized, event.Status)
	require.Equal(t, wire.ClassTerminal, event.Class)
	stop()

	_, events, stop = connect(nil, "boiler") // an authority that nobody knows
	require.ErrorContains(t, (<-events).Err, "TLS")
	stop()
}
