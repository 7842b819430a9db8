package devices

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/wire"
)

// outlet collects what a gateway sends to its devices.
type outlet struct {
	mu   sync.Mutex
	sent []wire.Command
	to   []int32
	fail error // answered instead of sending
}

func (o *outlet) send(device int32, command wire.Command) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail != nil {
		return o.fail
	}
	o.sent, o.to = append(o.sent, command), append(o.to, device)
	return nil
}

func (o *outlet) setFail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fail = err
}

func (o *outlet) all() []wire.Command {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.sent)
}

func (o *outlet) count() int { return len(o.all()) }

// connectTo opens a session and says so, as a gateway does.
func connectTo(t *testing.T, r *Registry, device Device) int64 {
	t.Helper()
	session := openSession(t, r, device)
	r.Welcomed(device.ID)
	return session
}

func gatewayWith(t *testing.T, url, name string) (*Registry, *outlet) {
	t.Helper()
	r, out := openRegistry(t, url, func(c *Config) { c.Gateway = name }), new(outlet)
	r.DispatchCommands(out.send)
	return r, out
}

func stateIs(t *testing.T, a *Admin, id int64, want CommandState) Command {
	t.Helper()
	var last Command
	require.Eventually(t, func() bool {
		command, err := a.Command(t.Context(), id)
		require.NoError(t, err)
		last = command
		return command.State == want
	}, patience, 10*time.Millisecond, "state %s wanted", want)
	return last
}

func history(t *testing.T, a *Admin, id int64) string {
	t.Helper()
	steps, err := a.CommandSteps(t.Context(), id)
	require.NoError(t, err)
	var states []string
	for _, step := range steps {
		states = append(states, string(step.State))
	}
	return strings.Join(states, " ")
}

func TestCommandToConnectedDevice(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	r, out := gatewayWith(t, url, "gateway-1")
	a := openAdmin(t, url)
	valve := add(t, a, "valve").Device
	session := connectTo(t, r, valve)

	began := time.Now()
	asked, err := a.SendCommand(t.Context(), "valve", NewCommand{
		Name: "set", Args: []byte(`{"open":true}`), TTL: 90 * time.Second, AskedBy: "ann",
	})
	require.NoError(t, err)
	eventually(t, func() bool { return out.count() == 1 }, "delivered")
	sent := out.all()[0]
	require.Equal(t, "set", sent.Name)
	require.Equal(t, []byte{0x81, 0xa4, 'o', 'p', 'e', 'n', 0xc3}, sent.Args)
	require.LessOrEqual(t, sent.TTL, 90)
	require.GreaterOrEqual(t, sent.TTL, 90-1-int(time.Since(began).Seconds()), "less what has passed")
	require.Zero(t, sent.Flags)
	require.Equal(t, asked.ID, sent.ID)

	// Another device's word counts for nothing.
	r.CommandResult(valve.ID+1, wire.Result{ID: sent.ID, Status: wire.ResultFailed})
	r.CommandResult(valve.ID, wire.Result{ID: sent.ID, Status: wire.ResultAccepted})
	stateIs(t, a, sent.ID, CommandAccepted)
	r.CommandResult(valve.ID, wire.Result{ID: sent.ID, Status: wire.ResultDone, Detail: []byte{0xa2, 'o', 'k'}})
	done := stateIs(t, a, sent.ID, CommandDone)
	require.Equal(t, `"ok"`, string(done.Detail))
	require.Equal(t, "ann", done.AskedBy)
	require.Zero(t, *done.Status)
	for _, at := range []time.Time{done.Sent, done.Accepted, done.Finished} {
		require.WithinDuration(t, time.Now(), at, time.Minute)
	}
	require.Equal(t, "queued sent accepted done", history(t, a, sent.ID))
	steps, err := a.CommandSteps(t.Context(), sent.ID)
	require.NoError(t, err)
	require.Equal(t, "gateway-1", steps[1].Gateway)
	require.Equal(t, session, steps[1].Session)

	// What ended stays as it ended.
	r.CommandResult(valve.ID, wire.Result{ID: sent.ID, Status: wire.ResultFailed})
	again, err := a.SendCommand(t.Context(), "valve", NewCommand{Name: "next"})
	require.NoError(t, err)
	stateIs(t, a, again.ID, CommandSent)
	r.CommandResult(valve.ID, wire.Result{ID: again.ID, Status: wire.ResultUnknown})
	stateIs(t, a, again.ID, CommandRefused)
	stateIs(t, a, sent.ID, CommandDone)
}

// TestCommandWaits: it is delivered on the device's return, by the gateway to
// which the device returns.
func TestCommandWaits(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	first, atFirst := gatewayWith(t, url, "gateway-1")
	second, atSecond := gatewayWith(t, url, "gateway-2")
	a := openAdmin(t, url)
	valve := add(t, a, "valve").Device
	session := connectTo(t, first, valve)
	first.EndSession(endOf(session, "gone"))

	command, err := a.SendCommand(t.Context(), "valve", NewCommand{Name: "open"})
	require.NoError(t, err)
	require.Equal(t, CommandQueued, command.State)
	eventually(t, func() bool {
		second.dispatcher.mu.Lock()
		defer second.dispatcher.mu.Unlock()
		return len(second.dispatcher.pending) == 1
	}, "the second gateway knows")
	connectTo(t, second, valve)
	eventually(t, func() bool { return atSecond.count() == 1 }, "delivered on return")
	stateIs(t, a, command.ID, CommandSent)
	require.Zero(t, atFirst.count())
}

// TestCommandNewestConnection: a gateway that still holds a dead connection of a
// device which has come back elsewhere leaves its commands alone.
func TestCommandNewestConnection(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	stale, atStale := gatewayWith(t, url, "gateway-1")
	fresh, atFresh := gatewayWith(t, url, "gateway-2")
	a := openAdmin(t, url)
	valve := add(t, a, "valve").Device
	connectTo(t, stale, valve)
	connectTo(t, fresh, valve)
	for i := range 20 {
		command, err := a.SendCommand(t.Context(), "valve", NewCommand{Name: fmt.Sprintf("step-%d", i)})
		require.NoError(t, err)
		eventually(t, func() bool { return atFresh.count() == i+1 }, "delivered once")
		fresh.CommandResult(valve.ID, wire.Result{ID: command.ID, Status: wire.ResultDone})
		stateIs(t, a, command.ID, CommandDone)
	}
	require.Zero(t, atStale.count())
}

// TestCommandInOrder: a device gets its commands in their order, and no more at
// once than it can keep in mind.
func TestCommandInOrder(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	r, out := gatewayWith(t, url, "gateway-1")
	a := openAdmin(t, url)
	valve := add(t, a, "valve").Device
	var ids []int64
	for range 10 {
		command, err := a.SendCommand(t.Context(), "valve", NewCommand{Name: "step"})
		require.NoError(t, err)
		ids = append(ids, command.ID)
	}
	connectTo(t, r, valve)
	for i := range ids {
		eventually(t, func() bool { return out.count() == min(i+maxUnanswered, len(ids)) }, "as many as may be unanswered")
		r.CommandResult(valve.ID, wire.Result{ID: ids[i], Status: wire.ResultDone})
		stateIs(t, a, ids[i], CommandDone)
	}
	for i, command := range out.all() {
		require.Equal(t, ids[i], command.ID)
	}
}

func TestCommandsExpire(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	r, out := gatewayWith(t, url, "gateway-1")
	a := openAdmin(t, url)
	here, away := add(t, a, "here").Device, add(t, a, "away").Device
	connectTo(t, r, here)
	conn := sql(t, url)
	sent, err := a.SendCommand(t.Context(), "here", NewCommand{Name: "open"})
	require.NoError(t, err)
	begun, err := a.SendCommand(t.Context(), "here", NewCommand{Name: "dig"})
	require.NoError(t, err)
	queued, err := a.SendCommand(t.Context(), "away", NewCommand{Name: "open"})
	require.NoError(t, err)
	eventually(t, func() bool { return out.count() == 2 }, "delivered")
	r.CommandResult(here.ID, wire.Result{ID: begun.ID, Status: wire.ResultAccepted})
	stateIs(t, a, begun.ID, CommandAccepted)

	exec(t, conn, `UPDATE mooring.commands SET created_at = created_at - interval '2 minutes'`)
	require.NoError(t, r.expireCommands(t.Context()))
	require.Equal(t, "the device was not there in time", stateIs(t, a, queued.ID, CommandExpired).Note)
	require.Contains(t, stateIs(t, a, sent.ID, CommandExpired).Note, "may have been carried out")
	stateIs(t, a, begun.ID, CommandAccepted)
	exec(t, conn, `UPDATE mooring.commands SET accepted_at = accepted_at - interval '25 hours', created_at = created_at - interval '25 hours'`)
	require.NoError(t, r.expireCommands(t.Context()))
	stateIs(t, a, begun.ID, CommandFailed)

	// The device did answer: that is truer than a guess. Of what never went out
	// it can know nothing.
	r.CommandResult(here.ID, wire.Result{ID: sent.ID, Status: wire.ResultDone})
	stateIs(t, a, sent.ID, CommandDone)
	r.CommandResult(away.ID, wire.Result{ID: queued.ID, Status: wire.ResultDone})
	later, err := a.SendCommand(t.Context(), "here", NewCommand{Name: "last"})
	require.NoError(t, err)
	stateIs(t, a, later.ID, CommandSent)
	r.CommandResult(here.ID, wire.Result{ID: later.ID, Status: wire.ResultBusy})
	eventually(t, func() bool { c, _ := a.Command(t.Context(), later.ID); return c.State == CommandRefused }, "all answers are recorded")
	stateIs(t, a, queued.ID, CommandExpired)
}

func TestCommandByHand(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	r, out := gatewayWith(t, url, "gateway-1")
	a := openAdmin(t, url)
	valve := add(t, a, "valve").Device
	connectTo(t, r, valve)
	conn := sql(t, url)
	insert := `INSERT INTO mooring.commands (device_id, name, args) VALUES ($1, $2, $3) RETURNING id`
	good := scan[int64](t, conn, insert, valve.ID, "open", `[1, 2.5]`)
	bad := scan[int64](t, conn, insert, valve.ID, "no name", nil)
	stateIs(t, a, good, CommandSent)
	require.Contains(t, stateIs(t, a, bad, CommandRefused).Note, "can't be sent")
	require.Equal(t, []byte{0x92, 1, 0xcb, 0x40, 4, 0, 0, 0, 0, 0, 0}, out.all()[0].Args)
}

// TestCommandUnheard: a gateway that lost its listening connection finds what
// was queued meanwhile.
func TestCommandUnheard(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	r, out := gatewayWith(t, url, "gateway-1")
	a := openAdmin(t, url)
	valve := add(t, a, "valve").Device
	connectTo(t, r, valve)
	conn := sql(t, url)
	exec(t, conn, `ALTER TABLE mooring.commands DISABLE TRIGGER commands_queued`)
	_, err := a.SendCommand(t.Context(), "valve", NewCommand{Name: "open"})
	require.NoError(t, err)
	exec(t, conn, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	eventually(t, func() bool { return out.count() == 1 }, "found after the connection is back")
}

func TestBroadcast(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	r, out := gatewayWith(t, url, "gateway-1")
	a := openAdmin(t, url)
	pumps, err := a.AddMany(t.Context(), NewDevices{Prefix: "pump-", Count: 1200, Model: "pump", Labels: map[string]string{"site": "oslo"}})
	require.NoError(t, err)
	add(t, a, "valve")
	for _, pump := range pumps {
		connectTo(t, r, pump.Device)
	}
	ids, err := a.Broadcast(t.Context(), Recipients{Model: "pump", Labels: map[string]string{"site": "oslo"}}, NewCommand{Name: "stop"})
	require.NoError(t, err)
	require.Len(t, ids, 1200)
	eventually(t, func() bool { return out.count() == 1200 }, "all have it")
	for i, command := range out.all() {
		out.mu.Lock()
		device := out.to[i]
		out.mu.Unlock()
		r.CommandResult(device, wire.Result{ID: command.ID, Status: wire.ResultDone})
	}
	done := 0
	require.NoError(t, a.WatchCommands(t.Context(), ids, func(c Command) error {
		if c.State == CommandDone {
			done++
		}
		return nil
	}))
	require.Equal(t, 1200, done)

	none, err := a.Broadcast(t.Context(), Recipients{Model: "nothing"}, NewCommand{Name: "stop"})
	require.NoError(t, err)
	require.Empty(t, none)
	all, err := a.Broadcast(t.Context(), Recipients{All: true}, NewCommand{Name: "stop"})
	require.NoError(t, err)
	require.Len(t, all, 1201)
	for _, bad := range []Recipients{{}, {All: true, Model: "pump"}} {
		_, err := a.Broadcast(t.Context(), bad, NewCommand{Name: "stop"})
		var field *FieldError
		require.ErrorAs(t, err, &field)
	}
}

func TestCommandRefusedAtOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	a := openAdmin(t, url)
	add(t, a, "valve")
	for _, bad := range []struct {
		field   string
		command NewCommand
	}{
		{"command", NewCommand{}},
		{"command", NewCommand{Name: "two words"}},
		{"args", NewCommand{Name: "x", Args: []byte(`{`)}},
		{"args", NewCommand{Name: "x", Args: []byte(`"` + strings.Repeat("x", MaxCommandArgs) + `"`)}},
		{"ttl", NewCommand{Name: "x", TTL: time.Millisecond}},
		{"ttl", NewCommand{Name: "x", TTL: 31 * 24 * time.Hour}},
		{"ttl", NewCommand{Name: "x", TTL: -time.Second}},
		{"asked by", NewCommand{Name: "x", AskedBy: strings.Repeat("x", 129)}},
	} {
		_, err := a.SendCommand(t.Context(), "valve", bad.command)
		var field *FieldError
		require.ErrorAs(t, err, &field, "%+v", bad)
		require.Equal(t, bad.field, field.Field)
	}
	_, err := a.SendCommand(t.Context(), "nobody", NewCommand{Name: "x"})
	require.ErrorIs(t, err, ErrNotFound)
	_, err = a.Command(t.Context(), 99)
	require.ErrorIs(t, err, ErrNoCommand)
	_, err = a.Commands(t.Context(), CommandFilter{Device: "nobody"})
	require.ErrorIs(t, err, ErrNotFound)

	for range MaxOpenCommands {
		command, err := a.SendCommand(t.Context(), "valve", NewCommand{Name: "x"})
		require.NoError(t, err)
		require.Equal(t, CommandQueued, command.State)
	}
	over, err := a.SendCommand(t.Context(), "valve", NewCommand{Name: "x"})
	require.NoError(t, err)
	require.Equal(t, CommandRefused, over.State)
	require.Contains(t, over.Note, "at most 100")
	open, err := a.Commands(t.Context(), CommandFilter{Device: "valve", Open: true, Limit: 1000})
	require.NoError(t, err)
	require.Len(t, open, MaxOpenCommands)
	page, err := a.Commands(t.Context(), CommandFilter{Before: open[0].ID, Limit: 3})
	require.NoError(t, err)
	require.Equal(t, open[1:4], page)

	require.NoError(t, a.Disable(t.Context(), "valve"))
	disabled, err := a.SendCommand(t.Context(), "valve", NewCommand{Name: "x"})
	require.NoError(t, err)
	require.Equal(t, "the device is disabled", disabled.Note)
}

func TestWatchEnds(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	a := openAdmin(t, url)
	add(t, a, "valve")
	command, err := a.SendCommand(t.Context(), "valve", NewCommand{Name: "x"})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	err = a.WatchCommands(ctx, []int64{command.ID}, func(Command) error { cancel(); return nil })
	require.ErrorIs(t, err, context.Canceled)
	stop := errors.New("enough")
	require.ErrorIs(t, a.WatchCommands(t.Context(), []int64{command.ID}, func(Command) error { return stop }), stop)
}

// TestAnswersAreBounded: while Postgres is away answers pile up to a limit, and
// are counted beyond it.
func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	d := newDispatcher(nil)
	r := &Registry{dispatcher: d}
	for i := range maxResultsQueued + 5 {
		r.CommandResult(1, wire.Result{ID: int64(i)})
	}
	require.Len(t, d.results, maxResultsQueued)
}
