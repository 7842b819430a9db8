//go:build linux

package faults

import (
	"fmt"
	"os"
	"regexp"
	"slices"
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
// built, and with UPDATE_DOCS=1 writes the table into docs/RELIABILITY.md.
func Main(m *testing.M, leaks ...goleak.Option) {
	code := pgtest.Run(m, leaks...)
	if err := built.remove(); err != nil {
		fmt.Fprintf(os.Stderr, "faults: %v\n", err)
		code = max(code, 1)
	}
	if os.Getenv("UPDATE_DOCS") != "" && code == 0 {
		if err := writeTable(); err != nil {
			fmt.Fprintf(os.Stderr, "faults: %v\n", err)
			code = 1
		}
	}
	os.Exit(code)
}

const reliability = "../../docs/RELIABILITY.md"

// writeTable replaces the table between the markers of its kind.
func writeTable() error {
	table.Lock()
	defer table.Unlock()
	if len(table.rows) == 0 {
		return nil
	}
	return writeSection("faults", tableText(table.rows))
}

// tableText is the table as Markdown, and what each scenario expects.
func tableText(rows []Row) string {
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(a.Scenario, b.Scenario) })
	var text strings.Builder
	text.WriteString("| scenario | injections | rows acked | missing | doubled | longest stall | memory peak |\n|---|---|--:|--:|--:|--:|--:|\n")
	for _, r := range rows {
		fmt.Fprintf(&text, "| %s | %s | %d | %d | %d | %.1f s | %d MB |\n",
			r.Scenario, r.Injections, r.Acked, r.Missing, r.Doubled, r.Stall.Seconds(), r.Memory/1e6)
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
