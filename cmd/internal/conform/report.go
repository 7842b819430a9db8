package conform

import (
	"fmt"
	"io"
	"strings"
	"time"

	"mooring/cmd/internal/terminal"
)

// Report is what Run or a probe found.
type Report struct {
	Findings []Finding `json:"rules"`
	Kept     int       `json:"kept"`
	Broken   int       `json:"broken"`
	Departs  int       `json:"departs"`
	NotShown int       `json:"not_shown"`
	Seconds  float64   `json:"seconds"`
}

// NewReport counts what was found.
func NewReport(list []Finding, took time.Duration) Report {
	report := Report{Findings: list, Seconds: took.Round(100 * time.Millisecond).Seconds()}
	for i := range list {
		switch list[i].State {
		case Kept:
			report.Kept++
		case Broken:
			report.Broken++
		case Departs:
			report.Departs++
		default:
			report.NotShown++
		}
	}
	return report
}

// Good tells whether no rule is broken and at least one was shown to be kept.
func (r *Report) Good() bool { return r.Broken == 0 && r.Kept > 0 }

// Finding gives what was found of a rule.
func (r *Report) Finding(id string) Finding {
	for _, finding := range r.Findings {
		if finding.ID == id {
			return finding
		}
	}
	return Finding{}
}

// Print writes the report for people: the rules that were looked at, what was seen
// of those that are not kept, and the sum.
func (r *Report) Print(w io.Writer) {
	rows := make([][]string, 0, len(r.Findings))
	unplayed := 0
	var seen []string               // in the order of the rules
	by := make(map[string][]string) // what was seen → the rules it is seen of
	for i := range r.Findings {
		finding := &r.Findings[i]
		if finding.Detail == unplayedDetail {
			unplayed++
			continue
		}
		rows = append(rows, []string{string(finding.State), finding.ID, finding.Clause, finding.Text})
		if finding.State == Kept || finding.Detail == "" {
			continue
		}
		detail := finding.Detail
		if finding.Scenario != "" {
			detail = finding.Scenario + ": " + detail
		}
		if by[detail] == nil {
			seen = append(seen, detail)
		}
		by[detail] = append(by[detail], finding.ID)
	}
	terminal.Table(w, []string{"", "rule", "clause", "it …"}, rows)
	for _, detail := range seen {
		fmt.Fprintf(w, "\n%s:\n  %s\n", strings.Join(by[detail], ", "), detail)
	}
	if len(seen) > 0 {
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%s kept, %d broken, %s from a SHOULD, %d not shown", terminal.Count(r.Kept, "rule"), r.Broken,
		terminal.Count(r.Departs, "departure"), r.NotShown)
	if unplayed > 0 {
		fmt.Fprintf(w, " (%d of them because no scenario that was played looks at them)", unplayed)
	}
	fmt.Fprintf(w, "; %.0f s\n", r.Seconds)
}
