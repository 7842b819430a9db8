//go:build linux

package faults_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
	"mooring/internal/faults/proxy"
)

// trouble is a proxy in front of a stage's server.
type trouble struct {
	*proxy.Proxy
	stage *faults.Stage
}

func startTrouble(t *testing.T, s *faults.Stage, plan func(n int, random *rand.Rand) proxy.Plan) *trouble {
	t.Helper()
	p, err := proxy.Start(proxy.Config{Target: s.Server.Addr(), Seed: s.Seed, Plan: plan})
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return &trouble{p, s}
}

func (p *trouble) streamURL() string { return "ws://" + p.Addr() + "/v1/stream" }

// await waits until each of these faults has happened so often.
func (p *trouble) await(want map[string]int) {
	p.stage.Await("faults of the network", func() error {
		counts := p.Counts()
		for name, least := range want {
			if counts[name] < least {
				return fmt.Errorf("%q has happened %d times, not yet %d: %v", name, counts[name], least, counts)
			}
		}
		return nil
	})
}

// calm ends the trouble, and notes in the stage's table what there was.
func (p *trouble) calm() {
	p.Calm()
	counts := p.Counts()
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if name == "connections" {
			continue
		}
		for range counts[name] {
			p.stage.Injected("connections " + name)
		}
	}
}

// settled waits until the server holds no connection any more.
func settled(s *faults.Stage) {
	s.Await("the last connection's end", func() error {
		held, err := s.Server.Metric("mooring_ingest_connections")
		if err == nil && held > 0 {
			err = fmt.Errorf("%.0f connections are held", held)
		}
		return err
	})
}

func within(random *rand.Rand, offsets ...int64) int64 { return offsets[random.IntN(len(offsets))] }

func TestFaultNetworkSlow(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "over lines that delay by 0.1 to 0.3 s, or deliver one byte at a time, rows arrive late and none is lost",
	})
	p := startTrouble(t, s, func(n int, _ *rand.Rand) proxy.Plan {
		if n%2 == 0 {
			return proxy.Plan{Latency: 100 * time.Millisecond, Jitter: 200 * time.Millisecond}
		}
		return proxy.Plan{Piece: 1, PieceFor: 20_000}
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 1000, URL: p.streamURL()})
	load.AwaitAcked(5000)
	p.await(map[string]int{"delayed": 10, "one byte at a time": 10})
	p.calm()
	load.Stop()
	settled(s)
	s.Verdict()
}

func TestFaultNetworkCuts(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "connections cut and reset in the middle of frames, of either side's, lose nothing: what was not acknowledged is sent again",
	})
	p := startTrouble(t, s, func(_ int, random *rand.Rand) proxy.Plan {
		return proxy.Plan{
			Action: proxy.Action(1 + random.IntN(2)), Direction: proxy.Direction(random.IntN(2)), // Cut or Reset, Up or Down
			At: proxy.Point{Part: 2 + random.IntN(15), Offset: within(random, proxy.Half, proxy.End, 1, 3)},
		}
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 2000, URL: p.streamURL()})
	p.await(map[string]int{"cut": 100, "reset": 100})
	p.calm()
	load.AwaitAcked(2000)
	load.Stop()
	settled(s)
	s.Verdict()
}

func TestFaultNetworkHalfOpen(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "links that lead nowhere in one direction, or whose peer vanished without a word, are found dead by heartbeats: " +
			"by the device within two, by the server within one and 10 s; nothing is lost",
	})
	p := startTrouble(t, s, func(n int, random *rand.Rand) proxy.Plan {
		plan := proxy.Plan{At: proxy.Point{Part: 3 + random.IntN(20), Offset: within(random, proxy.Half, proxy.End)}}
		switch n % 4 {
		case 0:
			plan.Action = proxy.Vanish
		case 1:
			plan.Action, plan.Direction = proxy.Swallow, proxy.Up
		case 2:
			plan.Action, plan.Direction = proxy.Swallow, proxy.Down
		}
		return plan
	})
	load := s.Load(faults.LoadOptions{Devices: 24, Rate: 1200, URL: p.streamURL()})
	p.await(map[string]int{"vanished": 6, "swallowed": 12})
	s.Await("links found dead by the server", func() error {
		missed, err := s.Server.Metric("mooring_ingest_heartbeats_missed_total")
		if err == nil && missed < 6 {
			err = fmt.Errorf("%.0f so far", missed)
		}
		return err
	})
	p.calm()
	load.AwaitAcked(2000)
	result := load.Stop()
	require.Greater(t, result.Connects, uint64(24+12), "devices came back by themselves")
	settled(s)
	s.Verdict()
}

func TestFaultNetworkHandshakes(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "connections reset at every stage of the handshake leave nothing behind in the server, and devices get through in the end",
	})
	p := startTrouble(t, s, func(n int, random *rand.Rand) proxy.Plan {
		plan := proxy.Plan{Action: proxy.Reset}
		switch n % 6 {
		case 0:
			return proxy.Plan{Refuse: true}
		case 1: // within the request
			plan.At = proxy.Point{Offset: int64(random.IntN(200))}
		case 2: // behind it
			plan.At = proxy.Point{Offset: proxy.End}
		case 3: // within the answer
			plan.Direction, plan.At = proxy.Down, proxy.Point{Offset: int64(random.IntN(80))}
		case 4: // behind it, before WELCOME
			plan.Direction, plan.At = proxy.Down, proxy.Point{Offset: proxy.End}
		default: // some get through, for a while
			plan = proxy.Plan{Action: proxy.Cut, At: proxy.Point{Part: 8 + random.IntN(8), Offset: proxy.End}}
		}
		return plan
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 1000, URL: p.streamURL()})
	p.await(map[string]int{"refused": 25, "reset": 100, "cut": 12})
	p.calm()
	load.AwaitAcked(2000)
	load.Stop()
	settled(s)
	s.Verdict()
}

func TestFaultNetworkOldBytes(t *testing.T) {
	t.Parallel()
	s := faults.Start(t, faults.Options{
		Expect: "frames of a device's old connection that arrive while its new one takes over, or afterwards, store no row twice and lose none",
	})
	p := startTrouble(t, s, func(n int, random *rand.Rand) proxy.Plan {
		if n%3 == 2 {
			return proxy.Plan{Action: proxy.Cut, At: proxy.Point{Part: 4 + random.IntN(10), Offset: proxy.End}}
		}
		return proxy.Plan{
			Action: proxy.Hold, At: proxy.Point{Part: 3 + random.IntN(6), Offset: within(random, proxy.Half, proxy.End)},
			HoldFor: time.Duration(random.IntN(100)) * time.Millisecond, HoldPast: random.IntN(2) == 0,
		}
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 2000, URL: p.streamURL()})
	p.await(map[string]int{"held back": 150, "held back and delivered late": 100})
	s.Await("rows that arrived twice", func() error {
		twice, err := s.Server.Metric("mooring_ingest_rows_total", `outcome="duplicate"`)
		if err == nil && twice < 100 {
			err = fmt.Errorf("%.0f so far", twice)
		}
		return err
	})
	p.calm()
	load.AwaitAcked(2000)
	load.Stop()
	settled(s)
	s.Verdict()
}
