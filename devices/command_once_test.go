package devices

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/wire"
)

// TestCommandAtMostOnce: what was sent on a connection that broke goes out again
// only if it may.
func TestCommandAtMostOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	r, out := gatewayWith(t, url, "gateway-1")
	a := openAdmin(t, url)
	valve := add(t, a, "valve").Device
	session := connectTo(t, r, valve)
	once, err := a.SendCommand(t.Context(), "valve", NewCommand{Name: "once"})
	require.NoError(t, err)
	again, err := a.SendCommand(t.Context(), "valve", NewCommand{Name: "again", Idempotent: true})
	require.NoError(t, err)
	eventually(t, func() bool { return out.count() == 2 }, "both delivered")

	r.EndSession(endOf(session, "broke"))
	connectTo(t, r, valve)
	eventually(t, func() bool { return out.count() == 3 }, "the idempotent one goes again")
	require.Equal(t, again.ID, out.all()[2].ID)
	require.Equal(t, wire.FlagIdempotent, out.all()[2].Flags)
	require.Equal(t, "queued sent sent", history(t, a, again.ID))
	require.Equal(t, "queued sent", history(t, a, once.ID))

	// Its answer may still come, on the new connection.
	r.CommandResult(valve.ID, wire.Result{ID: once.ID, Status: wire.ResultDone})
	stateIs(t, a, once.ID, CommandDone)
}

func TestCommandIsGivenBack(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	r, out := gatewayWith(t, url, "gateway-1")
	a := openAdmin(t, url)
	valve := add(t, a, "valve").Device
	out.setFail(ErrNotHere)
	connectTo(t, r, valve)
	command, err := a.SendCommand(t.Context(), "valve", NewCommand{Name: "open"})
	require.NoError(t, err)
	eventually(t, func() bool { return history(t, a, command.ID) == "queued sent queued" }, "given back")
	out.setFail(nil)
	r.Welcomed(valve.ID)
	eventually(t, func() bool { return out.count() == 1 }, "delivered later")

	out.setFail(ErrTooLarge)
	large, err := a.SendCommand(t.Context(), "valve", NewCommand{Name: "large"})
	require.NoError(t, err)
	require.Equal(t, ErrTooLarge.Error(), stateIs(t, a, large.ID, CommandRefused).Note)

	out.setFail(errors.New("outbox full"))
	later, err := a.SendCommand(t.Context(), "valve", NewCommand{Name: "later"})
	require.NoError(t, err)
	eventually(t, func() bool { return strings.HasPrefix(history(t, a, later.ID), "queued sent queued") }, "given back")
	out.setFail(nil)
	r.dispatcher.retry() // as every few seconds
	eventually(t, func() bool { return out.count() == 2 }, "tried again")
}

// TestCommandIsGivenBackOnce: that a command was not sent is recorded, but the answer
// is lost. When it is recorded again, another connection may have it by now.
func TestCommandIsGivenBackOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	first, unheard := gatewayWith(t, url, "gateway-1")
	second, out := gatewayWith(t, url, "gateway-2")
	a := openAdmin(t, url)
	valve := add(t, a, "valve").Device
	unheard.setFail(ErrNotHere)
	session := connectTo(t, first, valve)
	command, err := a.SendCommand(t.Context(), "valve", NewCommand{Name: "open"})
	require.NoError(t, err)
	eventually(t, func() bool { return history(t, a, command.ID) == "queued sent queued" }, "given back")
	connectTo(t, second, valve)
	eventually(t, func() bool { return out.count() == 1 }, "delivered over another")
	stateIs(t, a, command.ID, CommandSent)

	d := first.dispatcher
	d.mu.Lock()
	d.undo[command.ID] = undoneReason{CommandQueued, ErrNotHere.Error(), session}
	d.mu.Unlock()
	require.NoError(t, first.putBack(t.Context()))
	require.Equal(t, "queued sent queued sent", history(t, a, command.ID))

	// What is claimed again and sent is not to be given back any more.
	d.mu.Lock()
	d.undo[command.ID], d.send = undoneReason{CommandQueued, ErrNotHere.Error(), session}, out.send
	d.mu.Unlock()
	d.deliverOne(&claimed{id: command.ID, device: valve.ID, session: session, name: "open"})
	d.mu.Lock()
	defer d.mu.Unlock()
	require.Empty(t, d.undo)
}
