//go:build linux

package faults

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mooring/internal/pgtest"
)

// Row is one scenario in the suite's table.
type Row struct {
	Scenario, Expect, Injections   string
	Measured                       string // what else was measured; "": nothing
	Acked, Missing, Doubled, Wrong uint64
	Stall                          time.Duration
	Memory                         int64 // bytes, most resident of any server process
	Took                           time.Duration
	Plain                          bool // without the race detector
	Failed                         bool
	Seed                           uint64
	Counts                         map[string]int // Injections, by kind
	Postgres                       string         // its version
}

// marked is the scenario's name, and that it failed.
func (r Row) marked() string {
	if r.Failed {
		return "**" + r.Scenario + " failed**"
	}
	return r.Scenario
}

// String is the row for a test's log.
func (r Row) String() string {
	text := fmt.Sprintf("%s: injected %s; %d rows acked, %d missing, %d doubled, %d wrong; longest stall %.1f s, memory peak %d MB; took %.0f s",
		r.Scenario, r.Injections, r.Acked, r.Missing, r.Doubled, r.Wrong, r.Stall.Seconds(), r.Memory/1e6, r.Took.Seconds())
	if r.Measured != "" {
		text += "; " + r.Measured
	}
	return text
}

var table struct {
	sync.Mutex
	rows  []Row
	notes []string
}

func record(row Row) {
	table.Lock()
	defer table.Unlock()
	table.rows = append(table.rows, row)
}

// Main runs the tests of a package of scenarios, removes the programs that were
// built, and with UPDATE_DOCS=1 writes the table of internal/faults into
// docs/RELIABILITY.md, in which a scenario that failed says so.
func Main(m *testing.M, leaks ...goleak.Option) {
	code := pgtest.Run(m, leaks...)
	if err := built.remove(); err != nil {
		fmt.Fprintf(os.Stderr, "faults: %v\n", err)
		code = max(code, 1)
	}
	if os.Getenv("UPDATE_DOCS") != "" && ours() {
		if err := writeTable(); err != nil {
			fmt.Fprintf(os.Stderr, "faults: %v\n", err)
			code = 1
		}
	}
	os.Exit(code)
}

const reliability = "../../docs/RELIABILITY.md"

// ours tells this package's tests, which run in its folder, from those of others.
func ours() bool {
	folder, err := os.Getwd()
	return err == nil && strings.HasSuffix(filepath.ToSlash(folder), "internal/faults")
}

// soakName is how the long run's rounds are called.
const soakName = "TestSoak/"

// writeTable replaces the tables between their markers, of those kinds of
// scenarios that ran.
func writeTable() error {
	table.Lock()
	defer table.Unlock()
	rows := table.rows
	if path := os.Getenv("MOORING_FAULTS_RESULTS"); path != "" {
		var err error
		if rows, err = keepRows(path, rows); err != nil {
			return err
		}
	}
	soaks, others := divide(rows)
	var failed []error
	if len(others) > 0 && whole() && os.Getenv("MOORING_FAULTS_OUTAGE") == "" {
		failed = append(failed, writeSection("faults", conditions(others)+tableText(others)))
	}
	if len(soaks) > 0 {
		failed = append(failed, writeSection("soak", conditions(soaks)+soakText(soaks)))
	}
	if len(table.notes) > 0 {
		failed = append(failed, writeSection("outage", conditions(rows)+outageHead+strings.Join(table.notes, "\n")+"\n"))
	}
	return errors.Join(failed...)
}

// whole tells whether the table would have all scenarios: it must not lose those
// that -run left out, but for runs in parts.
func whole() bool {
	return flag.Lookup("test.run").Value.String() == "" || os.Getenv("MOORING_FAULTS_RESULTS") != ""
}

const outageHead = "| | load | resident memory | backlog | drained at | acks within 1 s after |\n|---|---|---|---|---|---|\n"

// keepRows adds rows to a file that earlier test processes wrote, for long runs
// in parts, and gives all of them.
func keepRows(path string, rows []Row) ([]Row, error) {
	var all []Row
	content, err := os.ReadFile(path) //nolint:gosec // whoever runs the tests names it
	if err == nil {
		err = json.Unmarshal(content, &all)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("MOORING_FAULTS_RESULTS: %w", err)
	}
	all = append(all, rows...)
	if content, err = json.Marshal(all); err != nil {
		return nil, err
	}
	return all, os.WriteFile(path, content, 0o600) //nolint:gosec // see above
}

func divide(rows []Row) (soaks, others []Row) {
	for _, r := range rows {
		if strings.HasPrefix(r.Scenario, soakName) {
			soaks = append(soaks, r)
		} else {
			others = append(others, r)
		}
	}
	return soaks, others
}

// conditions says under which a table came about.
func conditions(rows []Row) string {
	race := "without the race detector"
	if slices.ContainsFunc(rows, func(r Row) bool { return !r.Plain }) {
		race = "with the race detector"
	}
	took := time.Duration(0)
	for _, r := range rows {
		took += r.Took
	}
	postgres := ""
	for _, r := range rows {
		postgres = max(postgres, r.Postgres) // one that failed early does not know it
	}
	text := fmt.Sprintf("%s, %d cores, PostgreSQL %s, %s, %s; %d scenarios, %.0f minutes one after the other.\n\n",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), postgres, runtime.Version(), race, len(rows), took.Minutes())
	if failed := failedSeeds(rows); failed != "" {
		text += "**Failed**, by name and seed: " + failed + ".\n\n"
	}
	return text
}

// failedSeeds names the scenarios that failed, with the seeds that repeat them.
func failedSeeds(rows []Row) string {
	var list []string
	for _, r := range rows {
		if r.Failed {
			list = append(list, fmt.Sprintf("%s (%d)", r.Scenario, r.Seed))
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// soakText sums the long run up.
func soakText(rows []Row) string {
	var acked, missing, doubled, wrong uint64
	var stall, took time.Duration
	var memory int64
	times := make(map[string]int)
	var seeds []string
	for _, r := range rows {
		acked, missing, doubled, wrong = acked+r.Acked, missing+r.Missing, doubled+r.Doubled, wrong+r.Wrong
		stall, memory, took = max(stall, r.Stall), max(memory, r.Memory), took+r.Took
		seeds = append(seeds, strconv.FormatUint(r.Seed, 10))
		for what, n := range r.Counts {
			times[what] += n
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "| | |\n|---|--:|\n| rounds | %d |\n| minutes | %.0f |\n| rows acked | %d |\n| missing | %d |\n| doubled | %d |\n| wrong | %d |\n| longest stall | %.1f s |\n| memory peak | %d MB |\n",
		len(rows), took.Minutes(), acked, missing, doubled, wrong, stall.Seconds(), memory/1e6)
	text.WriteString("\n| injection | times |\n|---|--:|\n")
	for _, what := range slices.Sorted(maps.Keys(times)) {
		fmt.Fprintf(&text, "| %s | %d |\n", what, times[what])
	}
	fmt.Fprintf(&text, "\nSeeds: %s.\n", strings.Join(seeds, ", "))
	return text.String()
}

// tableText is the table as Markdown, and what each scenario expects.
func tableText(rows []Row) string {
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(a.Scenario, b.Scenario) })
	var text strings.Builder
	text.WriteString("| scenario | injections | rows acked | missing | doubled | longest stall | memory peak |\n|---|---|--:|--:|--:|--:|--:|\n")
	for _, r := range rows {
		fmt.Fprintf(&text, "| %s | %s | %d | %d | %d | %.1f s | %d MB |\n",
			r.marked(), r.Injections, r.Acked, r.Missing, r.Doubled, r.Stall.Seconds(), r.Memory/1e6)
	}
	text.WriteString("\n| scenario | what must hold |\n|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&text, "| %s | %s |\n", r.Scenario, r.Expect)
	}
	measured := "\n| scenario | measured |\n|---|---|\n"
	for _, r := range rows {
		if r.Measured != "" {
			fmt.Fprintf(&text, "%s| %s | %s |\n", measured, r.Scenario, r.Measured)
			measured = ""
		}
	}
	return text.String()
}

// writeSection writes text between two markers of docs/RELIABILITY.md.
func writeSection(name, text string) error {
	content, err := os.ReadFile(reliability)
	if err != nil {
		return err
	}
	section := regexp.MustCompile(`(?s)(<!-- ` + name + `: [^\n]* -->\n)(.*)(<!-- /` + name + ` -->)`)
	found := section.FindSubmatchIndex(content)
	if found == nil {
		return fmt.Errorf("%s has no section %s", reliability, name)
	}
	updated := string(content[:found[3]]) + text + string(content[found[6]:])
	return os.WriteFile(reliability, []byte(updated), 0o644) //nolint:gosec // a document
}

// Note adds a line to the table of outages.
func Note(line string) {
	table.Lock()
	defer table.Unlock()
	table.notes = append(table.notes, line)
}
