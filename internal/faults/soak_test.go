//go:build linux

package faults_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
	"mooring/internal/faults/proxy"
)

// soakRound is how long one round of the long run injects: each has a database
// of its own, so that neither memory nor disk grows with the whole.
const soakRound = 3 * time.Minute

// TestSoak mixes everything at random for as long as MOORING_FAULTS_SOAK says,
// as 1h. Each round prints its seed; MOORING_FAULTS_SEED with that number and
// MOORING_FAULTS_SOAK=3m makes the same choices once more. The order in which
// processes run is not the seed's.
func TestSoak(t *testing.T) {
	text := os.Getenv("MOORING_FAULTS_SOAK")
	if text == "" {
		t.Skip("the long run: make soak")
	}
	length, err := time.ParseDuration(text)
	require.NoError(t, err)
	end := time.Now().Add(length)
	first := faults.Seed(t)
	for round := uint64(0); time.Now().Before(end) && !t.Failed(); round++ {
		seed := first + round
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			soak(t, seed, min(soakRound, time.Until(end)))
		})
	}
}

func soak(t *testing.T, seed uint64, length time.Duration) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	s := faults.Start(t, faults.Options{
		Expect:      "all faults mixed at random: nothing acknowledged is missing, doubled or changed, and every device gets its acks in the end",
		OwnPostgres: true, Seed: seed,
		Server: faults.ServerOptions{Flags: []string{
			"--writers", strconv.Itoa(1 + random.IntN(4)), "--window", strconv.Itoa(1 + random.IntN(32)),
			"--max-waiting-bytes", strconv.Itoa(1+random.IntN(16)) + "MiB", "--linger", []string{"0", "0", "5ms", "50ms"}[random.IntN(4)],
		}},
	})
	network, err := proxy.Start(proxy.Config{Target: s.Server.Addr(), Seed: seed, Plan: badNetwork})
	require.NoError(t, err)
	t.Cleanup(network.Close)
	loads := []*faults.Load{
		s.Load(faults.LoadOptions{Devices: 1 + random.IntN(100), Rate: 500 + random.IntN(4000), Rows: 1 + random.IntN(50)}),
		s.Load(faults.LoadOptions{Devices: 1 + random.IntN(50), Rate: 500 + random.IntN(2000), Faults: "heavy", AnyAnswer: true, Channels: 1 + random.IntN(20)}),
		s.Load(faults.LoadOptions{
			Devices: 1 + random.IntN(50), Rate: 500 + random.IntN(2000), Faults: "light", AnyAnswer: true,
			URL: "ws://" + network.Addr() + "/v1/stream",
		}),
	}
	for end := time.Now().Add(length); time.Now().Before(end) && !t.Failed(); {
		injection := soakInjections[random.IntN(len(soakInjections))]
		began := time.Now()
		injection.do(t, s, random)
		s.Injected(injection.name)
		t.Logf("%s (%.1f s)", injection.name, time.Since(began).Seconds())
		loads[0].AwaitAcked(1)
		time.Sleep(time.Duration(random.Int64N(int64(3 * time.Second))))
	}
	network.Calm()
	for what, times := range network.Counts() {
		if what != "connections" {
			s.InjectedTimes("connections "+what, times)
		}
	}
	s.Verdict()
}

// badNetwork is what becomes of the n-th connection through the proxy.
func badNetwork(_ int, random *rand.Rand) proxy.Plan {
	plan := proxy.Plan{At: proxy.Point{Part: random.IntN(40), Offset: proxy.Half}, HoldFor: time.Second, HoldPast: random.IntN(2) == 0}
	if plan.At.Part == 0 {
		plan.At.Offset = int64(random.IntN(200))
	}
	plan.Direction = []proxy.Direction{proxy.Up, proxy.Down}[random.IntN(2)]
	switch random.IntN(8) {
	case 0:
		plan.Action = proxy.Cut
	case 1:
		plan.Action = proxy.Reset
	case 2:
		plan.Action = proxy.Swallow
	case 3:
		plan.Action = proxy.Vanish
	case 4:
		plan.Action, plan.Direction = proxy.Hold, proxy.Up
	case 5:
		plan.Latency, plan.Jitter = 20*time.Millisecond, 50*time.Millisecond
	case 6:
		plan.Piece, plan.Gap, plan.PieceFor = 1, time.Millisecond, 2000
	default:
		plan.Refuse = random.IntN(2) == 0
	}
	return plan
}

type soakInjection struct {
	name string
	do   func(t *testing.T, s *faults.Stage, random *rand.Rand)
}

func upTo(random *rand.Rand, most time.Duration) {
	time.Sleep(time.Duration(random.Int64N(int64(most))))
}

// soakInjections leave the stage as they found it: all is up again.
var soakInjections = []soakInjection{
	{"kill -9 of the server", func(_ *testing.T, s *faults.Stage, _ *rand.Rand) {
		s.Server.Kill()
		s.Server.Start()
	}},
	{"kill -9 of the starting server", func(_ *testing.T, s *faults.Stage, random *rand.Rand) {
		s.Server.Kill()
		s.Server.Launch()
		upTo(random, 500*time.Millisecond)
		s.Server.Kill()
		s.Server.Start()
	}},
	{"SIGTERM", func(t *testing.T, s *faults.Stage, _ *rand.Rand) {
		t.Helper()
		code, _ := s.Server.Terminate()
		require.Zero(t, code)
		s.Server.Start()
	}},
	{"server frozen", func(_ *testing.T, s *faults.Stage, random *rand.Rand) {
		s.Server.Pause()
		upTo(random, 15*time.Second)
		s.Server.Resume()
	}},
	{"kill -9 between COPY and commit", func(_ *testing.T, s *faults.Stage, random *rand.Rand) {
		hold := s.HoldBeforeCommit()
		held := hold.Await(1)
		s.Server.Kill()
		if random.IntN(2) == 0 {
			s.TerminateBackends(held)
		}
		hold.Release()
		s.Server.Start()
	}},
	{"kill -9 between commit and ack", func(_ *testing.T, s *faults.Stage, random *rand.Rand) {
		hold := s.HoldAfterCommit()
		hold.Await(1)
		if random.IntN(2) == 0 {
			s.Server.Pause()
		}
		hold.Release()
		hold.AwaitNone()
		s.Server.Kill()
		s.Server.Start()
	}},
	{"connection ended mid-COPY", func(_ *testing.T, s *faults.Stage, _ *rand.Rand) {
		hold := s.HoldDuringCopy()
		s.TerminateBackends(hold.Await(1))
		hold.Release()
	}},
	{"connection ended mid-commit", func(_ *testing.T, s *faults.Stage, _ *rand.Rand) {
		hold := s.HoldAfterCommit()
		s.TerminateBackends(hold.Await(1))
		hold.Release()
	}},
	{"all connections to PostgreSQL ended", func(_ *testing.T, s *faults.Stage, _ *rand.Rand) {
		s.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mooring'")
	}},
	{"PostgreSQL killed", func(t *testing.T, s *faults.Stage, random *rand.Rand) {
		t.Helper()
		s.Postgres.Kill9(t)
		upTo(random, 10*time.Second)
		s.Postgres.Start(t)
	}},
	{"PostgreSQL stopped at once", func(t *testing.T, s *faults.Stage, random *rand.Rand) {
		t.Helper()
		s.Postgres.StopImmediately(t)
		upTo(random, 10*time.Second)
		s.Postgres.Start(t)
	}},
	{"PostgreSQL restarted", func(t *testing.T, s *faults.Stage, _ *rand.Rand) {
		t.Helper()
		s.Postgres.Stop(t)
		s.Postgres.Start(t)
	}},
	{"PostgreSQL frozen", func(t *testing.T, s *faults.Stage, random *rand.Rand) {
		t.Helper()
		s.Postgres.Pause(t)
		upTo(random, 40*time.Second)
		s.Postgres.Resume(t)
	}},
	{"both killed", func(t *testing.T, s *faults.Stage, _ *rand.Rand) {
		t.Helper()
		s.Server.Kill()
		s.Postgres.Kill9(t)
		s.Postgres.Start(t)
		s.Server.Start()
	}},
	{"server killed while PostgreSQL is away", func(t *testing.T, s *faults.Stage, random *rand.Rand) {
		t.Helper()
		s.Postgres.Kill9(t)
		upTo(random, 3*time.Second)
		s.Server.Kill()
		s.Postgres.Start(t)
		s.Server.Start()
	}},
	{"read-only", func(_ *testing.T, s *faults.Stage, random *rand.Rand) {
		s.SQL("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
		upTo(random, 5*time.Second)
		s.SQL("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
	}},
	{"no connections allowed", func(_ *testing.T, s *faults.Stage, random *rand.Rand) {
		s.SQL("ALTER ROLE mooring CONNECTION LIMIT 0", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mooring'")
		upTo(random, 5*time.Second)
		s.SQL("ALTER ROLE mooring CONNECTION LIMIT -1")
	}},
	{"partitions locked", func(_ *testing.T, s *faults.Stage, random *rand.Rand) {
		holder := s.Connect()
		holder.Exec("BEGIN")
		holder.Exec("LOCK TABLE mooring.samples IN ACCESS EXCLUSIVE MODE")
		upTo(random, 8*time.Second)
		holder.Close()
	}},
	{"no more files", func(t *testing.T, s *faults.Stage, random *rand.Rand) {
		t.Helper()
		limitFiles(t, s.Server.PID(), 10)
		if random.IntN(2) == 0 {
			s.TerminateBackends(s.WriterBackends())
		}
		upTo(random, 5*time.Second)
		limitFiles(t, s.Server.PID(), 4096)
	}},
	{"a breath", func(_ *testing.T, _ *faults.Stage, random *rand.Rand) { upTo(random, 10*time.Second) }},
}
