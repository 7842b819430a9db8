//go:build linux

package faults_test

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
	"mooring/wire"
)

func TestFaultOperatorRetention(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "retention drops a dozen partitions under load, one of them while somebody reads it, and no ack waits for that longer than 5 s",
		RowsGo: true,
	})
	// A dozen days of rows, long past.
	device := credentials(t, s.AddDevices("old-", 1))[0]
	d := join(t, s.Server, device.token)
	d.layout("old", wire.Channel{Name: "x"})
	const days = 12
	for day := range uint64(days) {
		at := time.Now().Add(-time.Duration(5+day) * 24 * time.Hour)
		d.data(10*day, at, 10, func(int) []wire.Value { return number(1) })
		d.ackedUpTo(10 * (day + 1))
	}
	d.leave()
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 2000})
	load.AwaitAcked(1000)
	// A transaction that has read everything stands in the way of a detach.
	reader := s.Connect()
	reader.Exec("BEGIN")
	_, err := reader.Query("SELECT count(*) FROM mooring.samples WHERE " + ofDevice(device.name))
	require.NoError(t, err)
	s.NewServer(faults.ServerOptions{Flags: []string{"--retention", "2d"}})
	s.Injected("server with a retention of 2 days")
	waiting := func() error {
		if s.SQL("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'ALTER TABLE mooring.samples DETACH%' AND state = 'active' AND datname = current_database()")[0][0] == "0" {
			return errors.New("nobody detaches")
		}
		return nil
	}
	s.Await("a detach that waits for the reader", waiting)
	s.Injected("reader in the way")
	load.AwaitAcked(3000)
	require.NoError(t, waiting(), "it still waits: rows were acknowledged beside it")
	reader.Exec("COMMIT")
	s.Await("the old partitions' end", func() error {
		left := s.SQL("SELECT count(*) FROM mooring.samples WHERE " + ofDevice(device.name))[0][0]
		tables := s.SQL("SELECT count(*) FROM pg_class WHERE relname LIKE 'samples\\_%' AND relkind = 'r' AND relnamespace = 'mooring'::regnamespace")[0][0]
		if n, _ := strconv.Atoi(tables); left != "0" || n > 6 {
			return fmt.Errorf("%s old rows, %s partitions", left, tables)
		}
		return nil
	})
	load.AwaitAcked(1000)
	load.Stop()
	require.Less(t, load.Stall(), 5*time.Second)
	s.Verdict()
}

func TestFaultOperatorWideViews(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "the wide view of a busy layout is widened twice while rows come in and people read it, one of them in a transaction left open; " +
			"acks don't wait for it longer than 5 s, and the view has all columns in the end",
	})
	loads := []*faults.Load{s.Load(faults.LoadOptions{Devices: 10, Rate: 1000, Channels: 5})}
	loads[0].AwaitAcked(1000)
	view := func() string {
		return s.SQL("SELECT count(*) FROM information_schema.columns WHERE table_schema = 'mooring_layout' AND table_name = 'fleet'")[0][0]
	}
	s.Await("the view", func() error {
		if view() == "0" {
			return errors.New("it is not there")
		}
		return nil
	})
	reader := s.Connect()
	reader.Exec("BEGIN")
	_, err := reader.Query("SELECT count(*) FROM mooring_layout.fleet")
	require.NoError(t, err)
	s.Injected("reader who leaves a transaction open")
	for _, channels := range []int{8, 12} {
		loads = append(loads, s.Load(faults.LoadOptions{Devices: 10, Rate: 500, Channels: channels}))
		loads[len(loads)-1].AwaitAcked(1500)
		s.Injected("wider layout of the same name")
	}
	reader.Exec("COMMIT")
	s.Await("the wide view's columns", func() error {
		if got := view(); got != strconv.Itoa(2+12) && got != strconv.Itoa(3+12) { // ts, device, seq
			return fmt.Errorf("%s columns", got)
		}
		return nil
	})
	for _, load := range loads {
		load.AwaitAcked(500)
		load.Stop()
		require.Less(t, load.Stall(), 5*time.Second)
	}
	s.Verdict()
}

func TestFaultOperatorTokens(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "tokens rotated under load: both are good until the old one's grace is over, from then on the old one gets 401; " +
			"one revoked at once ends its connection with 4501 within 5 s; devices that use the new one notice nothing",
	})
	path := s.AddDevices("rotated-", 10)
	old := s.Load(faults.LoadOptions{Devices: 10, Rate: 1000, Tokens: path})
	old.AwaitAcked(1000)
	watcher := credentials(t, s.AddDevices("watcher-", 1))[0]
	idle := join(t, s.Server, watcher.token)
	rotate := func(name string, flags ...string) string {
		s.Injected("token rotated")
		flags = append([]string{"device", "rotate", name, "--database-url", s.DatabaseURL}, flags...)
		return strings.TrimSpace(mooring(t, s.Program("mooring"), flags...))
	}
	before := credentials(t, path)
	var after []credential
	for _, device := range before { // with more time to show that both are good than any machine needs
		after = append(after, credential{device.name, rotate(device.name, "--grace", "1h")})
	}
	rotate(watcher.name, "--now")
	revoked := time.Now()
	idle.closes(wire.CloseUnauthenticated)
	late := time.Since(revoked)
	require.Less(t, late, 5*time.Second)
	fresh := filepath.Join(s.Dir(), "fresh.csv")
	writeCredentials(t, fresh, after)
	// The old tokens are good still: the same devices, twice, replace each other.
	renewed := s.Load(faults.LoadOptions{Devices: 10, Rate: 1000, Tokens: fresh})
	renewed.AwaitAcked(500)
	old.AwaitAcked(500)
	old.Stop()
	// And the end of a grace.
	const grace = 10 * time.Second
	brief := credentials(t, s.AddDevices("brief-", 1))[0]
	rotated := time.Now()
	rotate(brief.name, "--grace", grace.String())
	s.Await("the old token's end", func() error {
		d, status := connect(t, s.Server, brief.token)
		d.leave()
		if status != http.StatusUnauthorized {
			return fmt.Errorf("HTTP %d", status)
		}
		return nil
	})
	require.Greater(t, time.Since(rotated), grace-time.Second, "not before the grace is over")
	s.Figure(fmt.Sprintf("a connection ended %.2f s after its token was revoked", late.Seconds()))
	renewed.AwaitAcked(2000)
	renewed.Stop()
	require.Less(t, renewed.Stall(), 5*time.Second)
	s.Verdict()
}
