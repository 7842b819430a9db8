package conform

import (
	"fmt"
	"io"
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

// Print writes the report for people.
func (r *Report) Print(w io.Writer) {
	rows := make([][]string, 0, len(r.Findings))
	for i := range r.Findings {
		finding := &r.Findings[i]
		detail := finding.Detail
		if finding.State != Kept && finding.Scenario != "" && finding.Detail != "" {
			detail = finding.Scenario + ": " + detail
		}
		rows = append(rows, []string{string(finding.State), finding.ID, finding.Clause, finding.Text, detail})
	}
	terminal.Table(w, []string{"", "rule", "clause", "it …", "seen"}, rows)
	fmt.Fprintf(w, "%s kept, %d broken, %s from a SHOULD, %d not shown; %.0f s\n",
		terminal.Count(r.Kept, "rule"), r.Broken, terminal.Count(r.Departs, "departure"), r.NotShown, r.Seconds)
}
