package conformance_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mooring/ingest"
	"mooring/internal/conformance"
	"mooring/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// everybody lets everybody in, each as a device of its own, and stores nothing.
type everybody struct{ devices, sessions, layouts atomic.Int32 }

func (e *everybody) Authenticate(context.Context, ingest.Credential) (ingest.Device, error) {
	id := e.devices.Add(1)
	return ingest.Device{ID: id, Name: fmt.Sprintf("device-%d", id)}, nil
}

func (e *everybody) Open(context.Context, ingest.SessionStart) (ingest.SessionInfo, error) {
	return ingest.SessionInfo{Session: int64(e.sessions.Add(1))}, nil
}
func (*everybody) Progress(ingest.SessionProgress) {}
func (*everybody) Close(ingest.SessionEnd)         {}

func (e *everybody) ResolveLayout(context.Context, int32, *wire.Layout) (int32, error) {
	return e.layouts.Add(1), nil
}

func (*everybody) AppendRow(dst []byte, _, _ int32, _ *wire.Row) []byte { return append(dst, 0) }

func (*everybody) Write(context.Context, int, []byte, int, []int32) (ingest.Outcome, error) {
	return ingest.Outcome{}, nil
}
func (*everybody) RecordRejects(int32, []wire.Reject, *wire.Layout, []byte) {}

// serve starts a gateway as Sections asks for.
func serve(t *testing.T) (addr string) {
	t.Helper()
	all := &everybody{}
	// A client that is held still between two frames finds the server waiting for it.
	gateway, err := ingest.New(ingest.Config{MaxFrame: 64 << 10, DrainGrace: time.Millisecond, CloseTimeout: time.Minute}, all, all, all)
	require.NoError(t, err)
	require.NoError(t, gateway.Start(t.Context()))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := ingest.NewServer(gateway, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, gateway.Stop(ctx))
		_ = server.Close()
		<-done
	})
	return listener.Addr().String()
}

const document = "../../docs/CONFORMANCE.md"

// TestConformance plays every case, and sees that docs/CONFORMANCE.md lists them
// with what came of them.
func TestConformance(t *testing.T) {
	t.Parallel()
	addr := serve(t)
	seen := map[string]bool{}
	var table strings.Builder
	passed, failed := 0, 0
	for _, section := range conformance.Sections() {
		fmt.Fprintf(&table, "\n## %s\n\n", section.Title)
		if section.About != "" {
			fmt.Fprintf(&table, "%s\n\n", section.About)
		}
		table.WriteString("| case | the client sends | RFC 6455 asks | Mooring answers | |\n|---|---|---|---|---|\n")
		for _, c := range section.Cases {
			require.False(t, seen[c.ID], "case %s stands twice", c.ID)
			seen[c.ID] = true
			result := "passed"
			t.Run(c.ID, func(t *testing.T) {
				client, err := conformance.Dial(t.Context(), addr, "token")
				require.NoError(t, err)
				defer client.Close()
				if err := c.Run(client); err != nil {
					result = "**failed**"
					t.Error(err)
				}
			})
			if result == "passed" {
				passed++
			} else {
				failed++
			}
			fmt.Fprintf(&table, "| %s | %s | %s | %s | %s |\n", c.ID, c.Sends, c.Asks, c.Must, result)
		}
	}
	t.Logf("%d passed, %d failed", passed, failed)

	want := fmt.Sprintf(preface, passed, failed) + table.String()
	if os.Getenv("UPDATE_DOCS") != "" {
		require.NoError(t, os.WriteFile(document, []byte(want), 0o644))
		return
	}
	text, err := os.ReadFile(document)
	require.NoError(t, err)
	require.Equal(t, want, string(text), "docs/CONFORMANCE.md is not up to date: run UPDATE_DOCS=1 go test ./internal/conformance")
}

const preface = `# Conformance to RFC 6455

Written by ` + "`UPDATE_DOCS=1 go test ./internal/conformance`" + `, which plays every case against
a gateway over a real socket with a WebSocket client of its own; the test fails if
a case does, or if this file is not what it would write.

The cases are those that matter to this server of the Autobahn test suite's
sections 1 to 7 and 9, described in own words and numbered by its sections; numbers
within a section are this table's. Left out are text messages beyond section 6,
because Mooring takes binary messages alone; messages beyond 64 KiB, which is the
largest max_frame; and sections 12 and 13, compression, which is never agreed on.

Autobahn asks the server to echo. Here "the echo" is the answer to a PING frame
(PROTOCOL §4.5) with a number and padding, as large as the case wants: it comes
back only if the message was put together as it was sent. Where the server closes,
NOTICE GOAWAY precedes the close frame (PROTOCOL §9.3).

%d cases passed, %d failed.
`

// A table whose cases can't fail shows nothing: each is played against a server
// that does not do what it must.
func TestConformanceCasesCanFail(t *testing.T) {
	t.Parallel()
	for _, section := range conformance.Sections() {
		for _, c := range section.Cases {
			t.Run(c.ID, func(t *testing.T) {
				t.Parallel()
				client, stop := deaf(t)
				defer stop()
				require.Error(t, c.Run(client))
			})
		}
	}
}

// deaf is a server that welcomes, and then says something that is never right.
func deaf(t *testing.T) (*conformance.Client, func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buffer := make([]byte, 4096)
		_, _ = conn.Read(buffer)
		_, _ = conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
			"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"))
		_, _ = conn.Read(buffer)
		welcome := wire.NewEncoder().Welcome(wire.Welcome{Session: 1, Heartbeat: 30, MaxFrame: 64 << 10, Window: 16})
		_, _ = conn.Write(append([]byte{0x82, byte(len(welcome))}, welcome...))
		_, _ = conn.Write([]byte{0x8A, 5, 'n', 'e', 'v', 'e', 'r'}) // a Pong that nobody waits for
		for {
			if _, err := conn.Read(buffer); err != nil {
				return
			}
		}
	}()
	client, err := conformance.Dial(t.Context(), listener.Addr().String(), "token")
	require.NoError(t, err)
	return client, func() {
		client.Close()
		<-done
		_ = listener.Close()
	}
}
