package bench

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// piped gives a device that is connected to whoever holds the other end.
func piped(t *testing.T) (d *device, server net.Conn) {
	t.Helper()
	here, there := net.Pipe()
	t.Cleanup(func() {
		_ = here.Close()
		_ = there.Close()
	})
	return &device{conn: here, reader: bufio.NewReaderSize(here, deviceReadBuffer), window: 1}, there
}

// take reads so many frames of a device.
func take(t *testing.T, server net.Conn, template *template, frames int) {
	t.Helper()
	_, err := io.ReadFull(server, make([]byte, frames*len(template.bytes)))
	require.NoError(t, err)
}

// acknowledge answers a device.
func acknowledge(t *testing.T, server net.Conn, next uint64) {
	t.Helper()
	frame := wire.NewEncoder().Ack(&wire.Ack{Next: next, Window: 1})
	_, err := server.Write(append([]byte{0x82, byte(len(frame))}, frame...))
	require.NoError(t, err)
}

// TestSpentLoadIsNotMeasuredOn: a device that has nothing left to send is no load;
// to go on would be to measure how little there was.
func TestSpentLoadIsNotMeasuredOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, server := piped(t)
		l := limited(newTemplate(tenRows), []*device{d}, 20)
		l.start()
		take(t, server, l.template, 1)
		over := make(chan error, 1)
		go func() { over <- l.until(t.Context(), time.Hour) }()
		synctest.Wait() // it waits: the last row is not sent before
		acknowledge(t, server, 10)
		take(t, server, l.template, 1) // the last one
		require.NoError(t, <-over)
		require.ErrorIs(t, l.until(t.Context(), time.Hour), errSpent, "it was all sent before")
		acknowledge(t, server, 20)
		require.NoError(t, l.end())

		ended, end := context.WithCancel(t.Context())
		end()
		require.ErrorIs(t, new(load).until(ended, time.Hour), context.Canceled)
		require.NoError(t, new(load).until(t.Context(), time.Millisecond))
	})
}

// TestLatestAcksAreNotLeftOut: a frame that is never acknowledged has no latency,
// and must not make the others' look better.
func TestLatestAcksAreNotLeftOut(t *testing.T) {
	t.Parallel()
	silent, server := piped(t)
	idle, _ := piped(t)
	l := &load{template: newTemplate(tenRows), fleet: []*device{silent, idle}}
	p := &pacer{load: l, latency: hdrhistogram.New(1, time.Minute.Microseconds(), 3), quit: make(chan struct{})}
	p.fleet = []*paced{{device: silent}, {device: idle}}
	go take(t, server, l.template, 1)
	p.one(p.fleet[0])
	for _, d := range p.fleet {
		l.running.Go(func() { p.read(d) })
	}
	p.stop()
	_ = silent.conn.SetReadDeadline(time.Now()) // it has waited long enough
	err := l.end()
	require.ErrorContains(t, err, "1 of 2 devices failed")
	require.ErrorContains(t, err, "1 frames were never acknowledged")
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}
