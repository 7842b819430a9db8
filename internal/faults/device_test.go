//go:build linux

package faults_test

import (
	"fmt"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
	"mooring/wire"
)

func TestFaultDevicesHeavy(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "devices that reboot, cut, trickle, leap in time, send again, connect twice and say every bad thing PROTOCOL §11 lists " +
			"get the answers it states, and no row is lost, doubled or changed",
		Refusals: true,
	})
	load := s.Load(faults.LoadOptions{Devices: 40, Rate: 2000, Channels: 8, Faults: "heavy"})
	load.AwaitAcked(20_000)
	s.Injected("fleet run --faults heavy")
	s.Verdict()
}

// What sequence numbers and rows mean here: a credential is one device to the
// server. A hundred machines that share it each number their rows from 0, so
// equal numbers are common; rows are told apart by (device, time, number), and
// each machine's clock is its own, so none of their rows are the same row. A
// machine is promised what it was acknowledged on its own connection, and a
// takeover takes nothing back.
func TestFaultDevicesSharingCredentials(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "1,000 devices with ten credentials replace each other without end: what each was acknowledged is stored once, " +
			"each waits its minute (here a tenth) after each 4101, and other devices notice nothing",
	})
	bystander := s.Load(faults.LoadOptions{Devices: 20, Rate: 500})
	const least = 6.0 // s, class L's wait at a tenth
	load := s.Load(faults.LoadOptions{
		Devices: 10, Rate: 1000, Rows: 5, Backoff: 0.1, Flags: []string{"--share", "100", "--log-level", "debug"},
		// They take turns of a sixteenth of a second at first, in which a slow machine
		// acknowledges little; whoever is done makes room.
		Settle: 5 * time.Minute,
	})
	began := time.Now()
	load.AwaitAcked(5000)
	time.Sleep(time.Until(began.Add(5 * time.Second)))
	s.Await("some rounds of takeovers", func() error {
		takeovers := 0
		for _, parting := range load.Partings() {
			if parting.Code == "4101" {
				takeovers++
			}
		}
		if takeovers <= 1000 {
			return fmt.Errorf("%d so far", takeovers)
		}
		return nil
	})
	result := load.Stop()
	took := time.Since(began).Seconds()
	replaced := result.Closes["4101 REPLACED"]
	for range replaced {
		s.Injected("takeover")
	}
	require.Greater(t, replaced, uint64(1000), "%v", result.Closes)
	require.LessOrEqual(t, float64(result.Connects), 1000*(took/least+2), "devices wait between connections")
	require.Less(t, bystander.Stall(), 5*time.Second, "other devices")
	s.Figure(fmt.Sprintf("%d connections in %.0f s; longest stall of the bystanders %.1f s", result.Connects, took, bystander.Stall().Seconds()))
	s.Verdict()
}

func TestFaultDevicesClocks(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "every row of devices whose clocks say 1970, or 2106 where 32 bits of seconds end, is refused by TIME_PAST or TIME_FUTURE and settled; " +
			"devices beside them are not held up",
	})
	right := s.Load(faults.LoadOptions{Devices: 10, Rate: 500})
	var wrong []*faults.Load
	for _, clock := range []string{"1970-01-01T00:00:00Z", "2106-02-07T06:28:13Z"} {
		wrong = append(wrong, s.Load(faults.LoadOptions{Devices: 5, Rate: 500, Flags: []string{"--clock", clock}}))
		s.Injected("clocks of " + clock[:4])
	}
	for _, load := range wrong {
		load.AwaitAcked(3000)
	}
	right.AwaitAcked(1000)
	for _, load := range wrong {
		result := load.Stop()
		require.Equal(t, result.Acked, result.Refused)
	}
	verdict := s.Verdict()
	require.Equal(t, verdict.Stored, right.Acked())
	// The log of refusals is bounded: 100 a minute and device.
	recorded, err := strconv.Atoi(s.SQL("SELECT count(*) FROM mooring.rejects WHERE code IN ('TIME_PAST', 'TIME_FUTURE')")[0][0])
	require.NoError(t, err)
	require.Positive(t, recorded)
	require.LessOrEqual(t, recorded, 10*100*3)
}

func TestFaultDevicesNumbersGoBack(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "numbers that go back within a connection close it with 4201, and what came before is stored; " +
			"across connections they may start again: other times are other rows, the same time and number is the same row and keeps its first value",
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 1000})
	load.AwaitAcked(500)
	const rounds = 10
	start := time.Now().Add(-6 * time.Hour).Truncate(time.Second)
	for _, device := range credentials(t, s.AddDevices("back-", 5)) {
		for round := range rounds {
			at := start.Add(time.Duration(round) * 100 * time.Second)
			d := join(t, s.Server, device.token)
			d.layout("back", wire.Channel{Name: "x"})
			value := func(i int) []wire.Value { return number(float64(100*round + i)) }
			d.data(500, at, 10, value)
			d.data(505, at.Add(50*time.Second), 10, value) // below 510
			d.closes(wire.CloseBadSeq)
			s.Injected("number below the last, one connection")

			d = join(t, s.Server, device.token)
			d.layout("back", wire.Channel{Name: "x"})
			d.data(0, at.Add(20*time.Second), 10, value)                                        // from 0 again
			d.data(500, at, 10, func(int) []wire.Value { return number(-1) })                   // the same rows, with other values
			d.data(510, at, 5, func(int) []wire.Value { return number(float64(round) + 0.25) }) // the same times, other rows
			d.ackedUpTo(515)
			require.Empty(t, d.refused)
			d.leave()
			s.Injected("numbers from 0 again, a later connection")
		}
		counts := s.SQL("SELECT count(*), count(*) FILTER (WHERE vals[1] < 0), count(*) FILTER (WHERE vals[1] != trunc(vals[1])) FROM mooring.samples WHERE " + ofDevice(device.name))[0]
		require.Equal(t, []string{strconv.Itoa(25 * rounds), "0", strconv.Itoa(5 * rounds)}, counts, device.name)
	}
	s.Verdict()
}

func TestFaultDevicesLayoutsChange(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "a layout's number declared anew within a connection stands for the new content from then on: " +
			"every row is stored under the channels it was sent with; a refused declaration refuses its rows alone",
		Refusals: true,
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 1000})
	load.AwaitAcked(500)
	const rounds = 6
	a, b, text := wire.Channel{Name: "a"}, wire.Channel{Name: "b", Unit: "V"}, wire.Channel{Name: "a", Kind: wire.KindText}
	for _, device := range credentials(t, s.AddDevices("change-", 4)) {
		d := join(t, s.Server, device.token)
		at, seq := time.Now().Add(-3*time.Hour).Truncate(time.Second), uint64(0)
		rows := func(values ...wire.Value) {
			d.data(seq, at, 10, func(int) []wire.Value { return values })
			seq, at = seq+10, at.Add(10*time.Second)
			d.ackedUpTo(seq)
			s.Injected("layout declared anew")
		}
		one := wire.Value{Kind: wire.ValueNumber, Number: 1}
		for range rounds {
			d.layout("changing", a)
			rows(one)
			d.layout("changing", a, b) // wider
			rows(one, one)
			d.layout("changing", b, a) // in another order
			rows(one, wire.Value{})
			d.layout("changing", text) // of another kind
			rows(wire.Value{Kind: wire.ValueText, Text: []byte("on")})
			require.Empty(t, d.refused)
			d.layout("not a name!", a)
			rows(one)
			require.NotEmpty(t, d.refused)
			require.Equal(t, wire.CodeUnknownLayout, d.refused[0].Code)
			d.refused = nil
		}
		d.leave()
		got := map[string]string{}
		for _, row := range s.SQL(`SELECT metric, unit, count(value), count(text) FROM mooring.readings WHERE device = '` + device.name + `' GROUP BY 1, 2`) {
			got[row[0]+row[1]] = row[2] + " " + row[3]
		}
		require.Equal(t, map[string]string{"a": fmt.Sprint(20*rounds, 10*rounds), "bV": fmt.Sprint(20*rounds, 0)}, got)
	}
	s.Verdict()
}

func TestFaultDevicesPoison(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "of devices of whose rows every tenth must be refused, by the server or by PostgreSQL itself, " +
			"the others are stored and the refused ones named; devices beside them are not held up",
		Refusals: true,
	})
	// An operator's constraint, of which the server knows nothing.
	device := credentials(t, s.AddDevices("poison-", 1))[0]
	s.SQL("ALTER TABLE mooring.samples ADD CONSTRAINT no_threes CHECK (seq % 10 <> 3 OR vals[1] <> -3)")
	bystander := s.Load(faults.LoadOptions{Devices: 20, Rate: 500})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 1000, Channels: 8, Flags: []string{"--refusals", "10"}})
	load.AwaitAcked(3000)
	s.Injected("fleet with 10 % to refuse")
	d := join(t, s.Server, device.token)
	d.layout("poisoned", wire.Channel{Name: "x"})
	const frames, rows = 15, 20
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	began := time.Now()
	for n := range uint64(frames) {
		d.data(n*rows, at.Add(time.Duration(n)*rows*time.Second), rows, func(int) []wire.Value { return number(-3) })
		s.Injected("frame with 10 % that PostgreSQL refuses")
	}
	d.ackedUpTo(frames * rows)
	took := time.Since(began)
	var refused uint64
	for _, reject := range d.refused {
		require.Equal(t, wire.CodeStorage, reject.Code)
		refused += reject.N
	}
	require.EqualValues(t, frames*rows/10, refused)
	require.Equal(t, strconv.Itoa(frames*rows*9/10), s.SQL("SELECT count(*) FROM mooring.samples WHERE " + ofDevice(device.name))[0][0])
	s.Figure(fmt.Sprintf("%d rows, %d of them refused by PostgreSQL, took %.1f s; longest stall of the bystanders %.1f s",
		frames*rows, refused, took.Seconds(), bystander.Stall().Seconds()))
	require.Less(t, bystander.Stall(), 15*time.Second)
	s.Verdict()
}

// mooring runs the operator's command and gives its output.
func mooring(t *testing.T, path string, arguments ...string) string {
	t.Helper()
	output, err := exec.Command(path, arguments...).Output()
	require.NoError(t, err, "%v", arguments)
	return string(output)
}
