package proxy

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

// target is a server that takes connections and keeps what each brought.
type target struct {
	listener net.Listener
	accepted chan *arrival
	workers  sync.WaitGroup
}

// arrival is a connection at the target.
type arrival struct {
	*net.TCPConn
	mu   sync.Mutex
	got  []byte
	err  error
	done chan struct{}
}

func listen(t *testing.T) *target {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &target{listener: listener, accepted: make(chan *arrival, 100)}
	s.workers.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			a := &arrival{TCPConn: conn.(*net.TCPConn), done: make(chan struct{})}
			s.workers.Go(a.read)
			s.accepted <- a
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		for {
			select {
			case a := <-s.accepted:
				_ = a.Close()
				continue
			default:
			}
			break
		}
		s.workers.Wait()
	})
	return s
}

func (a *arrival) read() {
	defer close(a.done)
	buffer := make([]byte, 4096)
	for {
		n, err := a.Read(buffer)
		a.mu.Lock()
		a.got, a.err = append(a.got, buffer[:n]...), err
		a.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (a *arrival) received() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return string(a.got)
}

// ended waits for the end and returns what came before it.
func (a *arrival) ended(t *testing.T) (string, error) {
	t.Helper()
	select {
	case <-a.done:
	case <-time.After(patience):
		require.FailNow(t, "the connection does not end")
	}
	return a.received(), a.err
}

func (a *arrival) gets(t *testing.T, want string) {
	t.Helper()
	require.Eventually(t, func() bool { return a.received() == want }, patience, time.Millisecond,
		"the server gets what was sent")
}

func (s *target) next(t *testing.T) *arrival {
	t.Helper()
	select {
	case a := <-s.accepted:
		t.Cleanup(func() { _ = a.Close() })
		return a
	case <-time.After(patience):
		require.FailNow(t, "no connection arrives")
		return nil
	}
}

// between starts a proxy in front of a target; plans go to connections in turn,
// those beyond get none.
func between(t *testing.T, plans ...Plan) (*Proxy, *target) {
	t.Helper()
	s := listen(t)
	p, err := Start(Config{Target: s.listener.Addr().String(), Plan: func(n int, _ *rand.Rand) Plan {
		if n < len(plans) {
			return plans[n]
		}
		return Plan{}
	}})
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p, s
}

func dial(t *testing.T, p *Proxy) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn.(*net.TCPConn)
}

func write(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(conn, text)
	require.NoError(t, err)
}

const (
	request  = "GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer abc\r\n\r\n"
	response = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
)

// frame is a WebSocket frame of so many bytes of payload, masked as devices do.
func frame(payload int, masked bool) string {
	head, bit := []byte{0x82}, byte(0)
	if masked {
		bit = 0x80
	}
	switch {
	case payload < 126:
		head = append(head, bit|byte(payload))
	case payload < 1<<16:
		head = append(head, bit|126, byte(payload>>8), byte(payload))
	default:
		head = append(head, bit|127, 0, 0, 0, 0, 0, byte(payload>>16), byte(payload>>8), byte(payload))
	}
	if masked {
		head = append(head, 1, 2, 3, 4)
	}
	return string(head) + strings.Repeat("x", payload)
}

func TestASoundConnectionPassesEverything(t *testing.T) {
	t.Parallel()
	p, s := between(t)
	device := dial(t, p)
	up := request + frame(10, true) + frame(70_000, true)
	write(t, device, up)
	server := s.next(t)
	down := response + frame(300, false)
	write(t, server, down)
	require.NoError(t, device.CloseWrite())
	got, err := server.ended(t)
	require.ErrorIs(t, err, io.EOF, "a half-close is passed on")
	require.Equal(t, up, got)
	require.NoError(t, server.CloseWrite())
	back, err := io.ReadAll(device)
	require.NoError(t, err)
	require.Equal(t, down, string(back))
	require.Equal(t, map[string]int{"connections": 1}, p.Counts())
}

// Faults strike exactly where the plan says: all before, nothing behind, however
// the bytes come in.
func TestFaultsStrikeToTheByte(t *testing.T) {
	t.Parallel()
	frames := []string{frame(10, true), frame(200, true), frame(70_000, true), frame(0, true)}
	whole := request + strings.Join(frames, "")
	start := []int{0, len(request)}
	for i, f := range frames {
		start = append(start, start[i+1]+len(f))
	}
	for _, test := range []struct {
		at   Point
		want int
	}{
		{Point{0, 0}, 0},
		{Point{0, 17}, 17},
		{Point{0, End}, len(request)},
		{Point{1, 0}, len(request)},
		{Point{1, 1}, start[1] + 1},
		{Point{1, Half}, start[1] + 8},
		{Point{2, 3}, start[2] + 3},
		{Point{2, End}, start[3]},
		{Point{2, 100_000}, start[3]},
		{Point{3, Half}, start[3] + 35_007},
		{Point{3, 70_013}, start[4] - 1},
		{Point{4, End}, start[5]},
	} {
		for _, step := range []int{1 << 20, 1000, 7} {
			t.Run(fmt.Sprintf("%v in steps of %d", test.at, step), func(t *testing.T) {
				t.Parallel()
				p, s := between(t, Plan{Action: Cut, Direction: Up, At: test.at})
				device := dial(t, p)
				server := s.next(t)
				for rest := whole; rest != ""; {
					n := min(step, len(rest))
					if _, err := io.WriteString(device, rest[:n]); err != nil {
						break // it is cut
					}
					rest = rest[n:]
				}
				got, _ := server.ended(t)
				require.Len(t, got, test.want)
				require.Equal(t, whole[:test.want], got)
				require.Equal(t, 1, p.Counts()["cut"])
			})
		}
	}
}

// The same for what the server sends; a reset is one.
func TestAResetIsAReset(t *testing.T) {
	t.Parallel()
	p, s := between(t, Plan{Action: Reset, Direction: Down, At: Point{Part: 1, Offset: Half}})
	device := dial(t, p)
	write(t, device, request)
	server := s.next(t)
	write(t, server, response+frame(100, false))
	var got []byte
	var err error
	for buffer := make([]byte, 1000); err == nil; {
		var n int
		n, err = device.Read(buffer)
		got = append(got, buffer[:n]...)
	}
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.Len(t, got, len(response)+51)
	_, err = server.ended(t)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.Equal(t, 1, p.Counts()["reset"])
}

func TestARefusedConnectionNeverReachesTheServer(t *testing.T) {
	t.Parallel()
	p, s := between(t, Plan{Refuse: true})
	device, err := net.Dial("tcp", p.Addr())
	if err == nil {
		_, err = device.Read(make([]byte, 1))
		_ = device.Close()
	}
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.Eventually(t, func() bool { return p.Counts()["refused"] == 1 }, patience, time.Millisecond)
	require.Empty(t, s.accepted)
}

// A swallowed direction leads nowhere and nobody is told; the other goes on.
func TestASwallowedDirection(t *testing.T) {
	t.Parallel()
	p, s := between(t, Plan{Action: Swallow, Direction: Up, At: Point{Part: 1, Offset: End}})
	device := dial(t, p)
	first := request + frame(10, true)
	write(t, device, first)
	server := s.next(t)
	server.gets(t, first)
	for range 100 {
		write(t, device, frame(10_000, true)) // never blocks
	}
	write(t, server, response)
	_, err := io.ReadFull(device, make([]byte, len(response)))
	require.NoError(t, err)
	require.NoError(t, device.CloseWrite())
	write(t, server, "still there")
	_, err = io.ReadFull(device, make([]byte, 11))
	require.NoError(t, err)
	require.Equal(t, first, server.received())
	require.NoError(t, server.Close())
	_, err = device.Read(make([]byte, 1))
	require.Error(t, err, "the direction that goes on tells its end")
}

// A peer that vanished: neither side hears of the other any more, not even of
// its end, until trouble is called off.
func TestAPeerThatVanished(t *testing.T) {
	t.Parallel()
	p, s := between(t, Plan{Action: Vanish, Direction: Up, At: Point{Part: 1, Offset: 3}})
	device := dial(t, p)
	write(t, device, request+frame(10, true))
	server := s.next(t)
	server.gets(t, request+frame(10, true)[:3])
	require.Eventually(t, func() bool { return p.Counts()["vanished"] == 1 }, patience, time.Millisecond)
	write(t, server, response)
	require.NoError(t, device.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err := device.Read(make([]byte, 1))
	var silence net.Error
	require.ErrorAs(t, err, &silence)
	require.True(t, silence.Timeout(), "nothing comes down either")
	require.NoError(t, device.Close())
	select {
	case <-server.done:
		require.FailNow(t, "the server was told")
	case <-time.After(50 * time.Millisecond):
	}
	p.Calm()
	_, err = server.ended(t)
	require.Error(t, err)
}

func TestPiecesAndLatency(t *testing.T) {
	t.Parallel()
	const delay = 30 * time.Millisecond
	p, s := between(t, Plan{Piece: 1, PieceFor: 40}, Plan{Latency: delay, Jitter: delay / 3})
	device := dial(t, p)
	text := request + frame(200, true)
	write(t, device, text)
	s.next(t).gets(t, text)

	device = dial(t, p)
	server := s.next(t)
	go func() { // ends with the connection
		var one [1]byte
		for {
			if server.received() != "" {
				_, _ = server.Write(one[:])
				return
			}
			time.Sleep(100 * time.Microsecond)
		}
	}()
	began := time.Now()
	write(t, device, "a")
	_, err := device.Read(make([]byte, 1))
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(began), 2*delay, "there and back")
	long := strings.Repeat("b", 300_000)
	write(t, device, long)
	server.gets(t, "a"+long)
}

// What a device sent on its old connection arrives behind its new one's request,
// or behind the server's first frame there.
func TestHeldBackBytesArriveAfterTheReturn(t *testing.T) {
	t.Parallel()
	for _, past := range []bool{false, true} {
		t.Run(fmt.Sprintf("past the welcome %v", past), func(t *testing.T) {
			t.Parallel()
			p, s := between(t, Plan{
				Action: Hold, Direction: Up, At: Point{Part: 2, Offset: Half}, HoldFor: 20 * time.Millisecond, HoldPast: past,
			})
			device := dial(t, p)
			all := request + frame(10, true) + frame(100, true) + frame(20, true)
			write(t, device, all)
			old := s.next(t)
			write(t, old, response+frame(5, false))
			before := len(request) + len(frame(10, true)) + 53
			old.gets(t, all[:before])
			_, err := io.Copy(io.Discard, device)
			require.Error(t, err, "the device's side is reset")

			other := dial(t, p) // somebody else's return changes nothing
			write(t, other, strings.Replace(request, "abc", "xyz", 1))
			stranger := s.next(t)
			write(t, stranger, response+frame(5, false))
			_, err = io.ReadFull(other, make([]byte, len(response+frame(5, false))))
			require.NoError(t, err)
			require.Equal(t, all[:before], old.received())

			device = dial(t, p)
			write(t, device, request)
			newer := s.next(t)
			newer.gets(t, request)
			if past {
				require.Equal(t, all[:before], old.received())
				write(t, newer, response+frame(5, false))
			}
			got, err := old.ended(t)
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, all, got)
			require.Equal(t, map[string]int{"connections": 3, "held back": 1, "held back and delivered late": 1}, p.Counts())
		})
	}
}

// The same seed gives the same plans.
func TestPlansFollowTheSeed(t *testing.T) {
	t.Parallel()
	s := listen(t)
	plans := func(seed uint64) []int64 {
		var got []int64
		done := make(chan struct{})
		p, err := Start(Config{Target: s.listener.Addr().String(), Seed: seed, Plan: func(n int, random *rand.Rand) Plan {
			got = append(got, random.Int64())
			if n == 4 {
				close(done)
			}
			return Plan{Refuse: true}
		}})
		require.NoError(t, err)
		defer p.Close()
		for range 5 {
			conn, err := net.Dial("tcp", p.Addr())
			if err == nil {
				_, _ = bufio.NewReader(conn).ReadByte()
				_ = conn.Close()
			}
		}
		<-done
		return got
	}
	require.Equal(t, plans(7), plans(7))
	require.NotEqual(t, plans(7), plans(8))
}
