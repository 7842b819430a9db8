package fleet

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"mooring/cmd/internal/app"
	"mooring/cmd/internal/conform"
	"mooring/devices"
	"mooring/internal/pgtest"
	"mooring/wire"
)

// TestProbe holds the real server against the protocol.
func TestProbe(t *testing.T) {
	t.Parallel()
	database := pgtest.URL(t)
	server := startServer(t, database, func(cfg *app.Config) { cfg.Grace = app.Span(2 * time.Second) })
	added := addDevices(t, database, 2)
	limit(t, database, added[1].Name, 50)
	report, err := Probe(t.Context(), ProbeConfig{
		URL: stream(server), Token: added[0].Token, LimitedToken: added[1].Token,
		Drain: func(ctx context.Context) error { return server.Stop(ctx) },
	})
	require.NoError(t, err)
	for _, finding := range report.Findings {
		assert.NotEqual(t, conform.Broken, finding.State, "%s (%s): %s", finding.ID, finding.Clause, finding.Detail)
		if finding.State == conform.NotShown {
			t.Logf("not shown: %s (%s): %s", finding.ID, finding.Clause, finding.Detail)
		}
	}
	t.Logf("%d kept, %d not shown, %.1f s", report.Kept, report.NotShown, report.Seconds)
}

// limit gives a device a quota of rows a second.
func limit(t *testing.T, database, name string, rows int32) {
	t.Helper()
	admin, err := devices.OpenAdmin(t.Context(), database)
	require.NoError(t, err)
	defer admin.Close()
	require.NoError(t, admin.SetQuota(t.Context(), name, devices.Quota{Rows: &rows}))
}

// TestProbeFindsFaults probes a server that keeps hardly a rule, and sees that the
// right checks say so.
func TestProbeFindsFaults(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { liar(t, conn) })
		}
	})
	wrong := []string{
		"subprotocol", "welcome-fields", "heartbeat-granted", "refused-alone", "ping-frame", "goaway-first", "hint",
		"names-at-most", "max-rx-at-least", "time-to-ask", "h14-a-body", "h16-two-keys", "m27-a-Close-whose-reason-is-not-UTF-8",
		"h2-wrong-token", "m7-a-map", "d2-n-of-0", "d15-vals-that-are-a-map",
	}
	var players sync.WaitGroup
	for _, id := range wrong {
		players.Go(func() {
			report, err := Probe(t.Context(), ProbeConfig{URL: "ws://" + listener.Addr().String(), Token: "any", Checks: []string{id}})
			if !assert.NoError(t, err, id) {
				return
			}
			assert.Equal(t, conform.Broken, report.Finding(id).State, "%s: %s", id, report.Finding(id).Detail)
			if id == "hint" {
				assert.Equal(t, conform.Broken, report.Finding("message-size").State)
				assert.Equal(t, conform.Broken, report.Finding("ack-what-was-sent").State)
			}
			assert.False(t, report.Good())
		})
	}
	players.Wait()
}

// liar serves a connection: whatever comes is acknowledged, however much it is.
func liar(t *testing.T, conn net.Conn) {
	t.Helper()
	defer conn.Close()
	in := bufio.NewReader(conn)
	if _, err := http.ReadRequest(in); err != nil {
		return
	}
	say := func(frame []byte) {
		head := binary.BigEndian.AppendUint16([]byte{0x82, 126}, uint16(len(frame)))
		_, _ = conn.Write(append(head, frame...))
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Protocol: other\r\n\r\n")
	encoder := wire.NewEncoder()
	say(encoder.Welcome(wire.Welcome{Heartbeat: 1, MaxFrame: 1, Window: 4, HasNext: true}))
	say(encoder.Notice(wire.Notice{Kind: wire.NoticeTime, Time: 1}))
	say(append(encoder.Notice(wire.Notice{Kind: 99}), make([]byte, 2000)...))
	some := make([]byte, 1000)
	for {
		n, err := in.Read(some)
		if err != nil {
			return
		}
		if n > 0 {
			say(encoder.Ack(&wire.Ack{Next: 1 << 52, Window: 4}))
		}
	}
}
