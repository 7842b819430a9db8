package fleet

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/cmd/internal/websocket"
	"mooring/wire"
)

const sinkVariable = "FLEET_TEST_SINK"

// TestSink is no test: it is the process that BenchmarkGenerator sends to.
func TestSink(t *testing.T) {
	if os.Getenv(sinkVariable) == "" {
		t.Skip("only as the other process of BenchmarkGenerator")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	fmt.Printf("listening %s\n", listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the benchmark closes it
		_ = listener.Close()
	}()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go sink(conn)
	}
}

// sink acknowledges every frame it has read without a look at the rows.
func sink(conn net.Conn) {
	defer conn.Close()
	reader := bufio.NewReaderSize(conn, 64<<10)
	request, err := http.ReadRequest(reader)
	if err != nil {
		return
	}
	hash := sha1.Sum([]byte(request.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Protocol: %s\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		wire.Subprotocol, base64.StdEncoding.EncodeToString(hash[:]))
	encoder, decoder := wire.NewEncoder(), wire.NewDecoder(wire.Limits{})
	reply := func(frame []byte) bool {
		message := append([]byte{0x82, byte(len(frame))}, frame...)
		_, err := conn.Write(message)
		return err == nil
	}
	reply(encoder.Welcome(wire.Welcome{Window: 16, MaxFrame: 16 << 10, Heartbeat: 30}))
	payload := make([]byte, 64<<10)
	for {
		opcode, size, err := readClientFrame(reader, payload)
		if err != nil || opcode == websocket.Close {
			return
		}
		if kind, err := wire.FrameTypeOf(payload[:size]); err != nil || kind != wire.FrameData {
			continue
		}
		head, err := decoder.DataHead(payload[:size])
		if err != nil || !reply(encoder.Ack(&wire.Ack{Next: head.Seq + uint64(head.N), Window: 16})) {
			return
		}
	}
}

func readClientFrame(reader *bufio.Reader, payload []byte) (opcode byte, size int, err error) {
	var head [8]byte
	if _, err := io.ReadFull(reader, head[:2]); err != nil {
		return 0, 0, err
	}
	opcode, size = head[0]&0x0f, int(head[1]&0x7f)
	if size == 126 {
		if _, err := io.ReadFull(reader, head[:2]); err != nil {
			return 0, 0, err
		}
		size = int(head[0])<<8 | int(head[1])
	}
	var mask [4]byte
	if _, err := io.ReadFull(reader, mask[:]); err != nil {
		return 0, 0, err
	}
	_, err = io.ReadFull(reader, payload[:size])
	for i := range payload[:min(size, 64)] { // the head is enough
		payload[i] ^= mask[i%4]
	}
	return opcode, size, err
}

// BenchmarkGenerator is what a fleet of 200 devices, frames of 10 rows, 5
// channels, can offer: the sink is another process, and rows/cpu-s counts this
// process's processor time alone.
func BenchmarkGenerator(b *testing.B) {
	command := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^TestSink$")
	command.Env = append(os.Environ(), sinkVariable+"=1")
	stop, err := command.StdinPipe()
	require.NoError(b, err)
	output, err := command.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, command.Start())
	line, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(b, err)
	address := strings.TrimPrefix(strings.TrimSpace(line), "listening ")
	tokens := make([]Credential, 200)
	for i := range tokens {
		tokens[i] = Credential{Name: fmt.Sprint("device-", i), Token: "token"}
	}
	var rows uint64
	var processor time.Duration
	for b.Loop() {
		before := processorTime(b)
		ctx, cancel := context.WithTimeout(b.Context(), 3*time.Second)
		result, err := Run(ctx, Config{URL: "ws://" + address, Tokens: tokens, Settle: 10 * time.Second})
		cancel()
		require.NoError(b, err)
		require.True(b, result.Settled())
		rows += result.Acked
		processor += processorTime(b) - before
	}
	b.ReportMetric(float64(rows)/processor.Seconds(), "rows/cpu-s")
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(0, "ns/op")
	_ = stop.Close()
	_ = command.Wait() // it ends with its stdin
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
