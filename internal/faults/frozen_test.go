//go:build linux

package faults_test

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
	"mooring/wire"
)

// Devices that send and never read: their acks pile up in the kernel's buffers,
// then in the server, which keeps one ack for each, and closes them when they
// leave what is written to them unread or go beyond their window (ingest's own
// tests see to that).
func TestFaultFrozenPeers(t *testing.T) {
	t.Parallel()
	const peers, most = 300, 40 << 10
	s := faults.Start(t, faults.Options{
		Expect: fmt.Sprintf("%d devices that send and never read cost less than %d KiB each, connection and all, and as little in the kernel; others are acknowledged meanwhile", peers, most>>10),
		Plain:  true,
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 1000})
	load.AwaitAcked(1000)
	all := credentials(t, s.AddDevices("frozen-", peers))
	before := s.Server.Memory()
	var frozen []*rawDevice
	for _, one := range all {
		d := join(t, s.Server, one.token)
		// The least that the kernel lets wait on this side.
		require.NoError(t, d.conn.(*net.TCPConn).SetReadBuffer(1))
		d.layout("frozen", wire.Channel{Name: "x"})
		frozen = append(frozen, d)
	}
	joined := s.Server.Memory()
	s.InjectedTimes("devices that never read", peers)

	// A frame a row, so that there are many acks. A device that obeyed would stop
	// when its window is used up; these go on until they are closed.
	peak, kernel, sent, closed := joined, int64(0), uint64(0), 0
	begun := time.Now()
	for closed < peers && time.Since(begun) < 20*time.Second {
		for i, d := range frozen {
			if d == nil {
				continue
			}
			require.NoError(t, d.conn.SetDeadline(time.Now().Add(faults.Patience)))
			if d.data(sent, time.Now(), 1, func(int) []wire.Value { return number(1) }); d.broken {
				closed++
				frozen[i] = nil
			}
		}
		sent++
		if sent%16 == 0 {
			peak, kernel = max(peak, s.Server.Memory()), max(kernel, unread(t, s.Server.Addr()))
		}
		time.Sleep(2 * time.Millisecond) // the window is to be used up by the peer's silence, not by haste
	}
	each := (peak - before) / peers
	t.Logf("%d peers: %d MB before, %d MB connected, %d MB at most: %d bytes each, of which %d for the connection; %d bytes each in the kernel; %d rows each in %.0f s, %d were closed",
		peers, before/1e6, joined/1e6, peak/1e6, each, (joined-before)/peers, kernel/peers, sent, time.Since(begun).Seconds(), closed)
	s.Figure(fmt.Sprintf("a frozen device cost at most %d bytes of the server, connection included, and %d of the kernel", each, kernel/peers))
	require.Less(t, kernel/peers, int64(most))
	require.Less(t, each, int64(most))
	load.AwaitAcked(1000)
	s.Verdict()
}

// unread is what waits in the kernel to be sent by connections of the address.
func unread(t *testing.T, address string) (bytes int64) {
	t.Helper()
	_, text, err := net.SplitHostPort(address)
	require.NoError(t, err)
	port, err := strconv.Atoi(text)
	require.NoError(t, err)
	content, err := os.ReadFile("/proc/net/tcp")
	require.NoError(t, err)
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) < 5 || !strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) {
			continue
		}
		queue, _, _ := strings.Cut(fields[4], ":")
		waiting, err := strconv.ParseInt(queue, 16, 64)
		require.NoError(t, err)
		bytes += waiting
	}
	return bytes
}
