package browser_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/client"
	"mooring/cmd/internal/app"
	"mooring/devices"
	"mooring/internal/loopback"
	"mooring/internal/pgtest"
	"mooring/wire"
)

// stage is a server with a user and devices.
type stage struct {
	*testing.T
	config app.Config
	server *app.App
	admin  *devices.Admin
	token  string // of the operator
}

func newStage(t *testing.T) *stage {
	t.Helper()
	url := pgtest.URL(t)
	s := &stage{T: t, config: app.Config{
		Listen: loopback.FreeAddress(t), Gateway: "harbour", Location: app.Location{DatabaseURL: url},
		Doors: app.Doors{AdminListen: "127.0.0.1:0"}, Grace: app.Span(time.Second),
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
	}}
	s.start()
	t.Cleanup(s.stop)
	var err error
	s.admin, err = devices.OpenAdmin(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(s.admin.Close)
	_, s.token, err = s.admin.AddUser(t.Context(), "ann", devices.RoleOperator)
	require.NoError(t, err)
	return s
}

func (s *stage) start() {
	s.Helper()
	server := app.New(s.config)
	require.NoError(s, server.Start(context.WithoutCancel(s.Context())))
	s.server = server
}

// stop ends the server; it may be started again at the same address.
func (s *stage) stop() {
	s.Helper()
	if s.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.Context()), time.Minute)
	defer cancel()
	require.NoError(s, s.server.Stop(ctx))
	s.server = nil
}

func (s *stage) url() string { return "http://" + s.config.Listen }

// link is what logs a browser in.
func (s *stage) link() string {
	s.Helper()
	secret, err := s.admin.NewLink(s.Context(), "ann")
	require.NoError(s, err)
	return s.url() + "/#login=" + secret
}

// add registers devices and returns their tokens.
func (s *stage) add(prefix, model string, count int, labels map[string]string) map[string]string {
	s.Helper()
	added, err := s.admin.AddMany(s.Context(), devices.NewDevices{Prefix: prefix, Count: count, Model: model, Labels: labels})
	require.NoError(s, err)
	tokens := make(map[string]string, count)
	for _, each := range added {
		tokens[each.Device.Name] = each.Token
	}
	return tokens
}

// boiler is a device that measures waves five times a second, and knows one
// command, identify, until it is switched off.
type boiler struct {
	off func()
}

func (s *stage) boiler(name, token string, phase float64) *boiler {
	s.Helper()
	device, err := client.New(client.Config{
		URL: "ws://" + s.config.Listen + wire.StreamPath, Token: token, Model: "boiler", Firmware: "2.4.1",
		Backoff: func(client.Retry) time.Duration { return 100 * time.Millisecond },
		OnCommand: func(_ context.Context, command wire.Command) wire.Result {
			if command.Name == "identify" {
				return wire.Result{Status: wire.ResultDone, Detail: []byte{0xa5, 'b', 'l', 'i', 'n', 'k'}} // "blink"
			}
			return wire.Result{Status: wire.ResultUnknown}
		},
	})
	require.NoError(s, err)
	layout, err := device.Layout("boiler", []wire.Channel{
		{Name: "temperature", Unit: "°C"},
		{Name: "pressure", Unit: "bar"},
		{Name: "flow", Unit: "l/min"},
		{Name: "burning", Kind: wire.KindBool},
		{Name: "mode", Kind: wire.KindText},
	})
	require.NoError(s, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := device.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			s.Logf("%s: %v", name, err)
		}
	})
	running.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		measure := func(at time.Time) {
			seconds := float64(at.UnixMilli())/1000 + phase*40
			pressure := 1.8 + 0.2*math.Sin(seconds/9) + 0.05*math.Sin(seconds*3)
			if phase == 0 && seconds > 0 && int(seconds)%30 == 0 {
				pressure = math.NaN() // refused, by name
			}
			_, _ = device.Append(layout, at, // the buffer is larger than the test is long
				number(61+6*math.Sin(seconds/17)+0.6*math.Sin(seconds*2)), number(pressure), number(12+3*math.Sin(seconds/31)),
				wire.Value{Kind: wire.ValueBool, Number: float64(int(seconds/20) % 2)}, wire.Value{Kind: wire.ValueText, Text: []byte("heating")})
		}
		for past := time.Now().Add(-4 * time.Minute); past.Before(time.Now()); past = past.Add(2 * time.Second) {
			measure(past)
		}
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				measure(now)
			}
		}
	})
	b := &boiler{off: func() { cancel(); running.Wait() }}
	s.Cleanup(b.off)
	return b
}

func number(value float64) wire.Value { return wire.Value{Kind: wire.ValueNumber, Number: value} }

// sendsOnce has a device send a row of some time ago, and leave.
func (s *stage) sendsOnce(token string, at time.Time) {
	s.Helper()
	device, err := client.New(client.Config{URL: "ws://" + s.config.Listen + wire.StreamPath, Token: token})
	require.NoError(s, err)
	layout, err := device.Layout("once", []wire.Channel{{Name: "level"}})
	require.NoError(s, err)
	_, err = device.Append(layout, at, number(7))
	require.NoError(s, err)
	ctx, cancel := context.WithCancel(s.Context())
	ended := make(chan error, 1)
	go func() { ended <- device.Run(ctx) }()
	require.Eventually(s, func() bool { return device.Stats().RowsSettled == 1 }, patience, 10*time.Millisecond)
	cancel()
	require.ErrorIs(s, <-ended, context.Canceled)
}
