package fleet

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// faulty is a connection with a fault that begins at once, and its other end.
func faulty(t *testing.T, fault linkFault) (conn *faultyConn, other net.Conn, begun *[]linkFault) {
	t.Helper()
	ours, other := net.Pipe()
	begun = new([]linkFault)
	conn = newFaultyConn(ours, fault, time.Now(), new(atomic.Bool), func(f linkFault) { *begun = append(*begun, f) })
	t.Cleanup(func() {
		_ = conn.Close()
		_ = other.Close()
	})
	return conn, other, begun
}

func TestCutInTheMiddleOfAFrame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn, other, begun := faulty(t, linkCut)
		var got []byte
		go func() { got, _ = io.ReadAll(other) }()
		n, err := conn.Write([]byte("0123456789"))
		require.ErrorIs(t, err, errCut)
		require.Equal(t, 5, n)
		synctest.Wait()
		require.Equal(t, "01234", string(got))
		_, err = conn.Write([]byte("x"))
		require.Error(t, err)
		require.Equal(t, []linkFault{linkCut}, *begun)
	})
}

func TestHalfOpenLinkSaysNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn, other, begun := faulty(t, linkHalfOpen)
		n, err := conn.Write([]byte("into the void"))
		require.NoError(t, err)
		require.Equal(t, 13, n)
		ended := make(chan error, 1)
		go func() {
			_, err := conn.Read(make([]byte, 10))
			ended <- err
		}()
		_ = other.SetWriteDeadline(time.Now().Add(time.Second))
		_, err = other.Write([]byte("hello?"))
		require.Error(t, err, "nobody reads")
		select {
		case err := <-ended:
			t.Fatal("the read ended", err)
		case <-time.After(time.Hour):
		}
		require.NoError(t, conn.Close())
		require.ErrorIs(t, <-ended, net.ErrClosed)
		require.Equal(t, []linkFault{linkHalfOpen}, *begun)
	})
}

func TestTrickleAndSlowReaderLoseNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		message := make([]byte, 5000)
		for i := range message {
			message[i] = byte(i)
		}
		conn, other, _ := faulty(t, linkTrickle)
		go func() {
			n, err := conn.Write(message)
			if n != len(message) || err != nil {
				t.Error(n, err)
			}
			_ = conn.Close()
		}()
		begin := time.Now()
		got, err := io.ReadAll(other)
		require.NoError(t, err)
		require.Equal(t, message, got)
		require.Greater(t, time.Since(begin), 500*time.Millisecond)

		conn, other, _ = faulty(t, linkSlow)
		go func() {
			_, _ = other.Write(message)
			_ = other.Close()
		}()
		begin = time.Now()
		got, err = io.ReadAll(conn)
		require.NoError(t, err)
		require.Equal(t, message, got)
		require.Greater(t, time.Since(begin), 500*time.Millisecond)
	})
}

func TestFaultsBeginInTimeOrNotAtAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ours, other := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, other) }()
		var calm atomic.Bool
		conn := newFaultyConn(ours, linkCut, time.Now().Add(time.Minute), &calm, func(linkFault) { t.Error("begun") })
		_, err := conn.Write([]byte("sound"))
		require.NoError(t, err)
		time.Sleep(2 * time.Minute)
		calm.Store(true)
		_, err = conn.Write([]byte("called off"))
		require.NoError(t, err)
		calm.Store(false)
		_, err = conn.Write([]byte("for good"))
		require.NoError(t, err)
		_ = conn.Close()
		_ = other.Close()
	})
}
