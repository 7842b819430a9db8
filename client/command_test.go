package client_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/client"
	"mooring/wire"
)

func (p *peer) result() wire.Result {
	p.t.Helper()
	result, err := p.decoder.Result(p.frame(wire.FrameResult))
	require.NoError(p.t, err)
	return result
}

func (p *peer) command(command wire.Command) {
	p.t.Helper()
	p.send(p.encoder.Command(command))
}

func TestCommandsRunAtMostOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		var ran []int64
		d := start(t, server, func(cfg *client.Config) {
			cfg.OnCommand = func(_ context.Context, command wire.Command) wire.Result {
				ran = append(ran, command.ID)
				return wire.Result{Status: wire.ResultDone, Detail: []byte{0x01}}
			}
		})
		defer d.stop()
		p := server.accept()
		p.frame(wire.FrameHello)
		p.welcome(16)
		want := wire.Result{ID: 7, Status: wire.ResultDone, Detail: []byte{0x01}}
		p.command(wire.Command{ID: 7, Name: "blink"})
		require.Equal(t, want, p.result())
		_ = p.conn.Close()

		// The answer may have been lost: it is repeated, the command is not.
		p = server.accept()
		p.frame(wire.FrameHello)
		p.command(wire.Command{ID: 7, Name: "blink"})
		require.Equal(t, want, p.result())
		require.Equal(t, []int64{7}, ran)
		p.command(wire.Command{ID: 7, Name: "blink", Flags: wire.FlagIdempotent})
		p.result()
		require.Equal(t, []int64{7, 7}, ran)
	})
}

func TestCommandsExpireAndQueuesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		release := make(chan struct{})
		var cut []error
		d := start(t, server, func(cfg *client.Config) {
			cfg.OnCommand = func(ctx context.Context, command wire.Command) wire.Result {
				if command.Name == "slow" {
					<-release
				}
				if command.Name == "endless" {
					<-ctx.Done()
					cut = append(cut, ctx.Err())
				}
				return wire.Result{Status: wire.ResultDone}
			}
		})
		defer d.stop()
		p := server.accept()
		p.frame(wire.FrameHello)
		p.command(wire.Command{ID: 1, Name: "slow"})
		synctest.Wait()
		for id := range int64(5) {
			p.command(wire.Command{ID: 2 + id, Name: "blink", TTL: 10})
		}
		require.Equal(t, wire.Result{ID: 6, Status: wire.ResultBusy}, p.result())
		synctest.Wait()
		require.Equal(t, 5, d.Stats().Commands)
		time.Sleep(11 * time.Second)
		close(release)
		require.Equal(t, wire.Result{ID: 1, Status: wire.ResultDone}, p.result())
		for id := range int64(4) {
			require.Equal(t, wire.Result{ID: 2 + id, Status: wire.ResultExpired}, p.result())
		}
		p.command(wire.Command{ID: 9, Name: "endless", TTL: 3})
		require.Equal(t, wire.Result{ID: 9, Status: wire.ResultDone}, p.result())
		require.Equal(t, []error{context.DeadlineExceeded}, cut)
		synctest.Wait()
		require.Zero(t, d.Stats().Commands)
	})
}

func TestWithoutHandlerCommandsAreUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		d := start(t, server, nil)
		defer d.stop()
		p := server.accept()
		p.frame(wire.FrameHello)
		p.command(wire.Command{ID: 1, Name: "blink"})
		require.Equal(t, wire.Result{ID: 1, Status: wire.ResultUnknown}, p.result())
	})
}

// A command counts as open until its answer is sent, on whichever connection; what
// waits for its turn when Run ends is open no more.
func TestCommandsAreOpenUntilAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer(t)
		release := make(chan struct{})
		d := start(t, server, func(cfg *client.Config) {
			cfg.OnCommand = func(context.Context, wire.Command) wire.Result {
				<-release
				return wire.Result{Status: wire.ResultDone}
			}
		})
		defer d.stop()
		open := func() int { synctest.Wait(); return d.Stats().Commands }
		p := server.accept()
		p.frame(wire.FrameHello)
		require.Zero(t, open())
		p.command(wire.Command{ID: 1, Name: "reboot"})
		require.Equal(t, 1, open())
		_ = p.conn.Close()
		synctest.Wait()
		release <- struct{}{}
		require.Equal(t, 1, open(), "answered, but not sent")
		p = server.accept()
		p.frame(wire.FrameHello)
		require.Equal(t, int64(1), p.result().ID)
		require.Zero(t, open())

		p.command(wire.Command{ID: 2, Name: "reboot"})
		p.command(wire.Command{ID: 3, Name: "reboot"})
		require.Equal(t, 2, open())
		close(release)
		p.result()
		p.result()
		require.Zero(t, open())
		p.command(wire.Command{ID: 3, Name: "reboot"})
		require.Equal(t, int64(3), p.result().ID)
		require.Zero(t, open(), "nor is one that is answered again")
	})
}
