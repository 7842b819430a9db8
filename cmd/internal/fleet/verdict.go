package fleet

import (
	"fmt"
	"io"
	"strconv"

	"mooring/cmd/internal/terminal"
	"mooring/storage"
)

// ProblemKind is what is wrong with a row.
type ProblemKind string

// The kinds of problems.
const (
	ProblemMissing    ProblemKind = "missing"           // acknowledged, not stored
	ProblemTwice      ProblemKind = "stored twice"      // a row of a boot under a time that is not its own
	ProblemWrong      ProblemKind = "wrong value"       // a value other than the one sent
	ProblemUnexpected ProblemKind = "unexpected"        // stored, never sent
	ProblemNotRefused ProblemKind = "should be refused" // stored, though the server must refuse it
	ProblemRefused    ProblemKind = "wrongly refused"   // a refusal that the row gives no reason for
	ProblemBooks      ProblemKind = "books"             // of a device, that don't balance
)

// Problem is one finding.
type Problem struct {
	Kind    ProblemKind `json:"kind"`
	Device  string      `json:"device"`
	Boot    int         `json:"boot"`
	Seq     uint64      `json:"seq"`
	Channel string      `json:"channel,omitempty"`
	Detail  string      `json:"detail,omitempty"`
}

func (p Problem) String() string {
	if p.Kind == ProblemBooks {
		return fmt.Sprintf("%s: %s: %s", p.Kind, p.Device, p.Detail)
	}
	text := fmt.Sprintf("%s: %s, row %d of boot %d", p.Kind, p.Device, p.Seq, p.Boot)
	if p.Channel != "" {
		text += ", channel " + p.Channel
	}
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	return text
}

// Verdict is what comparing a ledger with the database gave. All but Devices,
// Boots and Unbalanced count rows.
type Verdict struct {
	Clean   bool `json:"clean"`
	Devices int  `json:"devices"`
	Boots   int  `json:"boots"`

	Sent   uint64 `json:"sent"`
	Acked  uint64 `json:"acked"`  // the server promised: settled
	Stored uint64 `json:"stored"` // of those sent, found in the database as they were sent

	Missing    uint64 `json:"missing"`
	Twice      uint64 `json:"stored_twice"`
	Wrong      uint64 `json:"wrong_values"`
	Unexpected uint64 `json:"unexpected"`
	NotRefused uint64 `json:"not_refused"`
	Refused    uint64 `json:"wrongly_refused"` // rows and values
	Unbalanced uint64 `json:"unbalanced"`      // devices whose books don't balance, or don't agree with what is stored

	RefusedRows   uint64 `json:"refused_rows_as_expected"`   // whole rows
	RefusedValues uint64 `json:"refused_values_as_expected"` // rows stored with one value refused
	Given         uint64 `json:"given_up"`                   // by the device: may be stored or not
	UnackedStored uint64 `json:"stored_without_ack"`         // sent, committed, and the ack did not arrive in time
	Intruders     uint64 `json:"rows_without_readings"`      // left by bad inputs, with every reading refused
	Taken         uint64 `json:"taken_by_other_runs"`        // an earlier run's row has the same time and number
	OtherRuns     uint64 `json:"of_other_runs"`

	// Books are those of all devices of the run, since the devices exist.
	Books storage.Books `json:"-"`

	// Problems are the first ones found.
	Problems []Problem `json:"problems,omitempty"`
	// MoreProblems is how many there are beyond.
	MoreProblems uint64 `json:"more_problems,omitempty"`
}

func (v *Verdict) problem(limit int, p Problem) {
	if len(v.Problems) < limit {
		v.Problems = append(v.Problems, p)
	} else {
		v.MoreProblems++
	}
}

// Print writes the verdict for people.
func (v *Verdict) Print(w io.Writer) {
	count := func(n uint64) string { return strconv.FormatUint(n, 10) }
	terminal.Table(w, []string{"rows", "count", "must be"}, [][]string{
		{"sent", count(v.Sent), ""},
		{"acknowledged", count(v.Acked), ""},
		{"not acknowledged, lost at reboots for example", count(v.Sent - min(v.Sent, v.Acked)), ""},
		{"stored as sent", count(v.Stored), ""},
		{"missing", count(v.Missing), "0"},
		{"stored twice", count(v.Twice), "0"},
		{"with wrong values", count(v.Wrong), "0"},
		{"stored, never sent", count(v.Unexpected), "0"},
		{"stored, to be refused", count(v.NotRefused), "0"},
		{"wrongly refused", count(v.Refused), "0"},
		{"refused as expected", count(v.RefusedRows), ""},
		{"with a value refused as expected", count(v.RefusedValues), ""},
		{"given up by devices", count(v.Given), ""},
		{"stored, ack not arrived", count(v.UnackedStored), ""},
		{"devices whose books don't balance", count(v.Unbalanced), "0"},
	})
	b := &v.Books
	fmt.Fprintf(w, "the server's books: %d received = %d committed + %d duplicate + %d refused + %d returned + %d waiting",
		b.Received, b.Committed, b.Duplicate, b.Refused, b.Returned, b.Waiting)
	if b.Difference != 0 {
		fmt.Fprintf(w, ", and a difference of %d", b.Difference)
	}
	fmt.Fprintln(w)
	fmt.Fprintf(w, "%s, %s", terminal.Count(v.Devices, "device"), terminal.Count(v.Boots, "boot"))
	if v.OtherRuns > 0 {
		fmt.Fprintf(w, "; %s of other runs left aside", terminal.Count(v.OtherRuns, "row"))
	}
	if v.Taken > 0 {
		fmt.Fprintf(w, "; duplicates of such: %s", terminal.Count(v.Taken, "row"))
	}
	fmt.Fprintln(w)
	for _, problem := range v.Problems {
		fmt.Fprintln(w, problem)
	}
	if v.MoreProblems > 0 {
		fmt.Fprintf(w, "and %d more\n", v.MoreProblems)
	}
	style := terminal.NewStyler(w)
	if v.Clean {
		fmt.Fprintln(w, style.Good("clean: nothing acknowledged is missing, nothing is stored twice, the books balance"))
	} else {
		fmt.Fprintln(w, style.Bad("NOT CLEAN"))
	}
}
