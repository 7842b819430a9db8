//go:build linux

package faults

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mooring/internal/pgtest"
)

// Options set a scenario up. Expect is needed.
type Options struct {
	// Expect says in words what must hold.
	Expect string
	// OwnPostgres gives the scenario a cluster of its own to break; else it has
	// a database in one that all scenarios share.
	OwnPostgres bool
	// Settings are of the own cluster's postgresql.conf.
	Settings map[string]string
	// Base is the folder that the own cluster is put into. Defaults to a fast one.
	Base string
	// Server is how the first server is started.
	Server ServerOptions
	// NoServer leaves starting it to the scenario.
	NoServer bool
	// Seed decides what is chosen at random. Defaults to the function Seed's.
	Seed uint64
	// RowsGo says that stored rows are removed, as by retention.
	RowsGo bool
	// Refusals says that rows are refused and nothing dies: the log of refusals
	// must have them all, but for devices that reach its limit.
	Refusals bool
	// LacksMemory says that a server may die of a lack of memory.
	LacksMemory bool
	// Plain runs servers without the race detector whatever the tests do.
	Plain bool
}

// Stage is where a scenario plays. Its methods fail the test if they can't do
// what they say, and are for the test's goroutine alone, unless they say
// otherwise.
type Stage struct {
	Server      *Server          // the first one
	Postgres    *pgtest.Postgres // with Options.OwnPostgres
	DatabaseURL string           // of the owning role
	SuperURL    string           // of the superuser, in the same database
	Seed        uint64
	Random      *rand.Rand // of the seed

	tb      testing.TB
	options Options
	dir     string
	began   time.Time

	mu         sync.Mutex
	servers    []*Server
	loads      []*Load
	injections map[string]int
	order      []string // of injections, as they came first
	figures    []string

	row    Row  // of the suite's table
	judged bool // by Verdict
}

// Start sets a scenario up: a database with the schema, and a server.
func Start(tb testing.TB, options Options) *Stage {
	tb.Helper()
	if testing.Short() {
		tb.Skip("faults: the suite takes minutes")
	}
	if options.Expect == "" {
		tb.Fatal("faults: Options.Expect: say what must hold")
	}
	s := &Stage{tb: tb, options: options, dir: tb.TempDir(), began: time.Now(), injections: make(map[string]int), Seed: options.Seed}
	if s.Seed == 0 {
		s.Seed = Seed(tb)
	}
	s.Random = rand.New(rand.NewPCG(s.Seed, 0)) //nolint:gosec // to be repeated
	tb.Logf("%s; seed %d", options.Expect, s.Seed)
	if options.OwnPostgres {
		s.Postgres = pgtest.Cluster(tb, pgtest.Options{Settings: options.Settings, Base: options.Base})
		s.DatabaseURL, s.SuperURL = s.Postgres.URL(), s.Postgres.SuperuserURL(tb)
	} else {
		s.DatabaseURL = pgtest.URL(tb)
		s.SuperURL = pgtest.SuperuserURL(tb, s.DatabaseURL)
	}
	tb.Cleanup(s.stop) // before Postgres goes
	s.Server = s.server(options.Server)
	if !options.NoServer {
		s.Server.Start()
	}
	return s
}

// Seed is what MOORING_FAULTS_SEED says, which repeats a run, or else another
// each time.
func Seed(tb testing.TB) uint64 {
	tb.Helper()
	text := os.Getenv("MOORING_FAULTS_SEED")
	if text == "" {
		return rand.Uint64N(1_000_000) + 1 //nolint:gosec // guards nothing
	}
	number, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		tb.Fatalf("faults: MOORING_FAULTS_SEED: %v", err)
	}
	return number
}

// Program is the path of mooring or fleet, built without the race detector, for
// commands of the operator.
func (s *Stage) Program(name string) string {
	s.tb.Helper()
	return program(s.tb, false, name)
}

func (s *Stage) program(name string) string {
	s.tb.Helper()
	return program(s.tb, withRace && !s.options.Plain, name)
}

// Dir is a folder of the scenario's own.
func (s *Stage) Dir() string { return s.dir }

// AddDevices makes so many devices named by prefix and a number, and returns
// the file of their tokens.
func (s *Stage) AddDevices(prefix string, count int) string {
	s.tb.Helper()
	path := filepath.Join(s.dir, prefix+"tokens.csv")
	_, code := run(s.tb, program(s.tb, false, "mooring"), "device", "add", "--count", strconv.Itoa(count), "--prefix", prefix,
		"--out", path, "--database-url", s.DatabaseURL)
	if code != 0 {
		s.tb.Fatalf("faults: mooring device add ended with %d", code)
	}
	return path
}

// Injected counts a fault, by what it is. It may be called from any goroutine.
func (s *Stage) Injected(what string) { s.InjectedTimes(what, 1) }

// InjectedTimes counts faults of one kind.
func (s *Stage) InjectedTimes(what string, times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.injections[what] == 0 {
		s.order = append(s.order, what)
	}
	s.injections[what] += times
}

// Figure notes something measured, in words, for the suite's table.
func (s *Stage) Figure(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.figures = append(s.figures, text)
}

// Await calls try every few hundredths of a second until it returns nil; the
// test fails with its last error after Patience.
func (s *Stage) Await(what string, try func() error) {
	s.tb.Helper()
	if err := await(Patience, try); err != nil {
		s.tb.Fatalf("faults: waited for %s: %v", what, err)
	}
}

// Verdict is what comparing the ledgers of all loads with the database gave.
type Verdict struct {
	Clean      bool   `json:"clean"`
	Sent       uint64 `json:"sent"`
	Acked      uint64 `json:"acked"`
	Stored     uint64 `json:"stored"`
	Missing    uint64 `json:"missing"`
	Twice      uint64 `json:"stored_twice"`
	Wrong      uint64 `json:"wrong_values"`
	Unexpected uint64 `json:"unexpected"`
	NotRefused uint64 `json:"not_refused"`
	Refused    uint64 `json:"wrongly_refused"`
	Unacked    uint64 `json:"stored_without_ack"`
	Given      uint64 `json:"given_up"`
	Problems   []struct {
		Kind, Device, Detail string
		Seq                  uint64
	} `json:"problems"`
}

// Verdict stops every load, and then every server, so that all books are closed;
// it compares ledgers and books with the database, and fails the test unless
// nothing is missing, doubled or wrong, something was acknowledged, the books
// balance, and no server reported a race or a panic. The scenario's row goes into
// the suite's table.
func (s *Stage) Verdict() Verdict {
	s.tb.Helper()
	total := Verdict{Clean: true}
	var stall time.Duration
	for _, load := range s.loads {
		load.Stop()
		stall = max(stall, load.Stall())
	}
	for _, load := range s.loads {
		one := s.VerdictOf(load.files.ledger)
		total.Clean = total.Clean && one.Clean
		for _, sum := range []struct{ to, add *uint64 }{
			{&total.Sent, &one.Sent},
			{&total.Acked, &one.Acked},
			{&total.Stored, &one.Stored},
			{&total.Missing, &one.Missing},
			{&total.Twice, &one.Twice},
			{&total.Wrong, &one.Wrong},
			{&total.Unexpected, &one.Unexpected},
			{&total.NotRefused, &one.NotRefused},
			{&total.Refused, &one.Refused},
			{&total.Unacked, &one.Unacked},
		} {
			*sum.to += *sum.add
		}
		total.Problems = append(total.Problems, one.Problems...)
	}
	if !total.Clean {
		s.tb.Errorf("NOT CLEAN: %+v", total)
	}
	if total.Acked == 0 {
		s.tb.Error("nothing was acknowledged, so nothing was tested")
	}
	s.closeBooks()
	s.audit()
	s.compareBooks()
	var peak int64
	for _, server := range s.servers {
		peak = max(peak, server.Peak())
		if err := server.complaints(); err != nil {
			s.tb.Error(err)
		}
	}
	s.row.Acked, s.row.Missing, s.row.Doubled = total.Acked, total.Missing, total.Twice
	s.row.Wrong = total.Wrong + total.Unexpected + total.NotRefused + total.Refused
	s.row.Stall, s.row.Memory, s.row.Took = stall, peak, time.Since(s.began)
	s.row.Postgres, s.judged = s.SQL("SHOW server_version")[0][0], true
	s.fill()
	s.tb.Logf("%s", s.row)
	return total
}

// fill gives the scenario's row what is known of it so far.
func (s *Stage) fill() {
	s.row.Scenario, s.row.Expect, s.row.Seed = strings.TrimPrefix(s.tb.Name(), "TestFault"), s.options.Expect, s.Seed
	s.row.Injections, s.row.Counts = s.injected(), s.injections
	s.row.Measured, s.row.Plain = strings.Join(s.figures, "; "), s.options.Plain || !withRace
}

// enter puts the scenario's row into the suite's table: when the test is over, so
// that it says of one that failed that it did, before its verdict or afterwards.
func (s *Stage) enter() {
	s.row.Failed = s.tb.Failed()
	if !s.judged && !s.row.Failed {
		return // no scenario of rows, or skipped
	}
	if !s.judged {
		s.fill()
		s.row.Took = time.Since(s.began)
	}
	record(s.row)
}

func (s *Stage) injected() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for _, what := range s.order {
		list = append(list, fmt.Sprintf("%d× %s", s.injections[what], what))
	}
	return strings.Join(list, ", ")
}

// VerdictOf compares one ledger with the database by fleet verify, and leaves the
// judging of what it gives to the test.
func (s *Stage) VerdictOf(ledger string) Verdict {
	s.tb.Helper()
	stdout, _ := run(s.tb, program(s.tb, false, "fleet"), "verify", "--json", "--ledger", ledger, "--database-url", s.DatabaseURL)
	var verdict Verdict
	if err := json.Unmarshal(stdout, &verdict); err != nil {
		s.tb.Fatalf("faults: the verdict: %v: %s", err, stdout)
	}
	return verdict
}

// audit fails the test if the books that the servers keep do not balance, or
// differ from what is stored.
func (s *Stage) audit() {
	s.tb.Helper()
	arguments := []string{"audit", "--database-url", s.DatabaseURL}
	if !s.options.RowsGo {
		arguments = append(arguments, "--recount")
	}
	if stdout, code := run(s.tb, program(s.tb, false, "mooring"), arguments...); code != 0 {
		s.tb.Errorf("the books do not balance:\n%s", stdout)
	}
}

// stop ends every process and shows what servers said if the test failed.
func (s *Stage) stop() {
	s.enter()
	for _, load := range s.loads {
		load.stop()
	}
	for _, server := range s.servers {
		server.stop()
		if s.tb.Failed() {
			s.tb.Logf("server %s said last:\n%s", server.options.Name, tail(server.Log(), 40))
		}
	}
}

// Unable ends a scenario that the machine does not allow: skipped on a laptop,
// failed on a build server.
func Unable(tb testing.TB, what string, err error) {
	tb.Helper()
	if os.Getenv("CI") == "true" {
		tb.Fatalf("faults: can't %s: %v", what, err)
	}
	tb.Skipf("faults: can't %s: %v", what, err)
}
