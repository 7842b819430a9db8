package app

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/client"
	"mooring/devices"
	"mooring/internal/pgtest"
	"mooring/wire"
)

// TestCommandReachesTheRightServer: whichever of two servers holds the device
// delivers, and a command waits for a device that is away.
func TestCommandReachesTheRightServer(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	servers := []*App{
		startApp(t, Config{Gateway: "one", Location: Location{DatabaseURL: url}}),
		startApp(t, Config{Gateway: "two", Location: Location{DatabaseURL: url}}),
	}
	admin := openAdmin(t, servers[0])
	_, token, err := admin.Add(t.Context(), devices.NewDevice{Name: "valve"})
	require.NoError(t, err)

	for i, server := range []*App{servers[0], servers[1], servers[0]} {
		asked, err := admin.SendCommand(t.Context(), "valve", devices.NewCommand{
			Name: "set", Args: []byte(`{"open": true}`), AskedBy: "ann",
		})
		require.NoError(t, err)
		got := make(chan wire.Command, 4)
		ctx, leave := context.WithCancel(t.Context())
		device, err := client.New(client.Config{
			URL: server.URL(), Token: token,
			OnCommand: func(_ context.Context, command wire.Command) wire.Result {
				got <- command
				return wire.Result{Status: wire.ResultDone, Detail: []byte{0xc3}}
			},
		})
		require.NoError(t, err)
		layout, err := device.Layout("env", []wire.Channel{{Name: "temperature"}})
		require.NoError(t, err)
		_, err = device.Append(layout, time.Now(), wire.Value{Kind: wire.ValueNumber, Number: 1})
		require.NoError(t, err)
		ended := make(chan error, 1)
		go func() { ended <- device.Run(ctx) }()

		require.NoError(t, follow(t, admin, asked.ID))
		done, err := admin.Command(t.Context(), asked.ID)
		require.NoError(t, err)
		require.Equal(t, devices.CommandDone, done.State, done.Note)
		require.Equal(t, "true", string(done.Detail))
		steps, err := admin.CommandSteps(t.Context(), asked.ID)
		require.NoError(t, err)
		require.Equal(t, server.cfg.Gateway, steps[len(steps)-1].Gateway)

		// One for a device that is there.
		again, err := admin.SendCommand(t.Context(), "valve", devices.NewCommand{Name: "again"})
		require.NoError(t, err)
		require.NoError(t, follow(t, admin, again.ID))
		leave()
		require.ErrorIs(t, <-ended, context.Canceled)
		require.Equal(t, "set", (<-got).Name, "round %d", i)
		require.Equal(t, "again", (<-got).Name)
		require.Empty(t, got, "each was delivered once")
	}

	large, err := admin.SendCommand(t.Context(), "valve", devices.NewCommand{
		Name: strings.Repeat("n", 64), Args: []byte(`"` + strings.Repeat("x", devices.MaxCommandArgs-3) + `"`),
	})
	require.NoError(t, err, "the largest there may be")
	require.Equal(t, devices.CommandQueued, large.State)
}

// follow waits for a command's end.
func follow(t *testing.T, admin *devices.Admin, id int64) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return admin.WatchCommands(ctx, []int64{id}, func(devices.Command) error { return nil })
}
