package ingest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/ingest/door"
	"mooring/wire"
)

// FuzzConnection lets a session read anything at all behind a handshake that was
// in order: gws, the guard, the codec and the session together. Whatever it is,
// the session ends when the connection does, no fault of the server is recorded,
// and nothing is stored that was not told by DATA.
func FuzzConnection(f *testing.F) {
	encoder := wire.NewEncoder()
	message := func(frame []byte) []byte { return masked(0x82, bytes.Clone(frame)) }
	hello, layout := message(encoder.Hello(wire.Hello{BootID: 1})), message(encoder.Layout(twoNumbers()))
	frame, err := encoder.Data(&wire.Data{Seq: 1, Layout: 1, Rows: rows(1, 3)})
	require.NoError(f, err)
	data := message(frame)
	f.Add(bytes.Join([][]byte{hello, layout, data, masked(0x89, []byte("x")), masked(0x88, []byte{3, 0xE8})}, nil))
	f.Add(bytes.Join([][]byte{hello, masked(0x02, frame[:9]), masked(0x8A, nil), masked(0x80, frame[9:])}, nil))
	f.Add(bytes.Join([][]byte{layout, data, data}, nil))
	f.Add([]byte{0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0})
	f.Add(masked(0x81, []byte("text")))
	for _, input := range badInputs() {
		var stream []byte
		for _, frame := range input.frames {
			stream = append(stream, message(frame)...)
		}
		f.Add(append(bytes.Clone(layout), stream...))
	}

	registry, store := newFakeRegistry(), newFakeStore()
	cfg := quick()
	cfg.Door = door.Config{Rate: 1_000_000} // every input is a handshake more
	cfg.Door.Unlimited = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	gateway, err := New(cfg, registry, registry, store)
	require.NoError(f, err)
	require.NoError(f, gateway.Start(f.Context()))
	f.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(f, gateway.Stop(ctx))
	})
	f.Fuzz(func(t *testing.T, stream []byte) {
		ours, theirs := net.Pipe()
		request := httptest.NewRequest(http.MethodGet, wire.StreamPath, nil)
		request.Header = http.Header{
			"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
			"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Authorization": {"Bearer token-1"},
		}
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			_, _ = io.Copy(io.Discard, ours)
		}()
		answer := httptest.NewRecorder()
		gateway.ServeHTTP(&hijackable{answer, theirs}, request)
		require.Empty(t, answer.Body.String(), "the handshake is taken")
		_ = ours.SetWriteDeadline(time.Now().Add(patience))
		_, _ = ours.Write(stream)
		ours.Close()
		<-drained
		ended := make(chan struct{})
		go func() {
			gateway.sessions.Wait()
			close(ended)
		}()
		select { // polling would make this ten times as slow
		case <-ended:
		case <-time.After(patience):
			require.Fail(t, "the session does not end")
		}
		require.Zero(t, gateway.Stats().Connections)
		registry.mu.Lock()
		defer registry.mu.Unlock()
		for _, end := range registry.ends {
			require.NotEqual(t, wire.CloseInternal, end.Code, end.Reason)
		}
		registry.ends, registry.opens, registry.progress = nil, nil, nil
		store.mu.Lock()
		defer store.mu.Unlock()
		for key := range store.rows {
			require.Equal(t, int32(1), key.device)
		}
		clear(store.rows)
		store.order, store.rejects, store.layouts = nil, nil, nil
	})
}

// FuzzHandshake lets the gateway judge any request that net/http can parse: it
// refuses with a status and a line that holds nothing of what was sent, or finds
// one credential within its limits.
func FuzzHandshake(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(goodLine+goodHeaders, 1) + "\r\n"))
	for _, more := range []string{
		"Sec-WebSocket-Protocol: mooring.v1, mooring.token.x\r\n", "Authorization: Basic ZGV2aWNlLTE6dG9rZW4tMQ==\r\n",
		"Authorization: Digest x\r\n", "Origin: https://other.test\r\n", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n",
		"Sec-WebSocket-Key: x\r\n",
	} {
		f.Add([]byte(fmt.Sprintf(goodLine+goodHeaders, 1) + more + "\r\n"))
		f.Add([]byte(strings.Replace(fmt.Sprintf(goodLine+goodHeaders, 1), "Authorization: Bearer token-1\r\n", more, 1) + "\r\n"))
	}
	registry := newFakeRegistry()
	gateway, err := New(Config{}, registry, registry, newFakeStore())
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, text []byte) {
		request, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(text)))
		if err != nil {
			return
		}
		_, bad := gateway.checkRequest(request)
		_, _, tokens := offered(request.Header)
		found, worse := credential(request, tokens, false)
		for _, refused := range []*refusal{bad, worse} {
			if refused != nil {
				require.Contains(t, []int{400, 401, 403, 405, 426}, refused.status)
				require.NotEmpty(t, refused.label)
				require.Less(t, len(refused.text), 300)
			}
		}
		if worse == nil {
			require.NotEmpty(t, found.Token)
			require.LessOrEqual(t, len(found.Token), maxToken)
			require.LessOrEqual(t, len(found.Name), maxToken)
		}
		if bad == nil {
			require.Equal(t, http.MethodGet, request.Method)
			require.Zero(t, request.ContentLength)
		}
	})
}
