package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"mooring/cmd/internal/terminal"
)

// Figure is one measured number.
type Figure struct {
	Name  string
	Value float64
	// Against names the figure of the same scenario that is its ceiling or
	// floor; empty: none.
	Against string
	// Wanted is a bound that the figure is to keep; nil: none.
	Wanted *Bound
}

// Bound is what a figure is to reach, or not to pass.
type Bound struct {
	Value  float64
	AtMost bool // else at least
}

func atLeast(value float64) *Bound { return &Bound{Value: value} }
func atMost(value float64) *Bound  { return &Bound{Value: value, AtMost: true} }

// holds tells whether a value keeps it. A value that is no number does not.
func (b *Bound) holds(value float64) bool {
	if b.AtMost {
		return value <= b.Value
	}
	return value >= b.Value
}

// Scenario is what was measured in one of them, in the order of the table.
type Scenario struct {
	Name    string
	Figures []Figure
	Notes   []string // what one must know to read the figures
}

func (s *Scenario) add(name string, value float64) {
	s.Figures = append(s.Figures, Figure{Name: name, Value: value})
}

func (s *Scenario) addAgainst(name string, value float64, against string) {
	s.Figures = append(s.Figures, Figure{Name: name, Value: value, Against: against})
}

// want adds a figure and what it is to keep.
func (s *Scenario) want(name string, value float64, bound *Bound) {
	s.Figures = append(s.Figures, Figure{Name: name, Value: value, Wanted: bound})
}

func (s *Scenario) note(format string, args ...any) {
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
}

// Value gives a figure by its name.
func (s *Scenario) Value(name string) (float64, bool) {
	for _, figure := range s.Figures {
		if figure.Name == name {
			return figure.Value, true
		}
	}
	return 0, false
}

// Report is the outcome of a run.
type Report struct {
	Machine   map[string]any // what it ran on, and with which settings
	Scenarios []Scenario
}

// MarshalJSON gives {"machine": {…}, "scenarios": {NAME: {FIGURE: number}}}.
func (r *Report) MarshalJSON() ([]byte, error) {
	scenarios := make(map[string]map[string]float64)
	for _, scenario := range r.Scenarios {
		figures := make(map[string]float64)
		for _, figure := range scenario.Figures {
			if !math.IsNaN(figure.Value) && !math.IsInf(figure.Value, 0) {
				figures[figure.Name] = round(figure.Value)
			}
		}
		scenarios[scenario.Name] = figures
	}
	return json.Marshal(map[string]any{"machine": r.Machine, "scenarios": scenarios})
}

// round keeps five digits, or all of an integer: more than any measurement says.
func round(value float64) float64 {
	if math.Abs(value) >= 1e5 {
		return math.Round(value)
	}
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(value, 'g', 5, 64), 64)
	if err != nil {
		return value
	}
	return rounded
}

// Print writes the table.
func (r *Report) Print(w io.Writer) {
	var rows [][]string
	for i := range r.Scenarios {
		scenario := &r.Scenarios[i]
		name := scenario.Name
		for _, figure := range scenario.Figures {
			beside, ratio := "", ""
			if limit, ok := scenario.Value(figure.Against); ok {
				beside = figure.Against + " " + text(limit)
				ratio = strconv.FormatFloat(figure.Value/limit, 'f', 2, 64)
			}
			wanted, holds := "", ""
			if bound := figure.Wanted; bound != nil {
				wanted, holds = "≥ "+text(bound.Value), "no"
				if bound.AtMost {
					wanted = "≤ " + text(bound.Value)
				}
				if bound.holds(figure.Value) {
					holds = "yes"
				}
			}
			rows = append(rows, []string{name, figure.Name, text(figure.Value), beside, ratio, wanted, holds})
			name = ""
		}
	}
	terminal.Table(w, []string{"scenario", "figure", "measured", "beside", "ratio", "wanted", "holds"}, rows)
	for _, scenario := range r.Scenarios {
		for _, note := range scenario.Notes {
			fmt.Fprintf(w, "%s: %s\n", scenario.Name, note)
		}
	}
}

// text writes a number for people: 1,234,567 or 12.34.
func text(value float64) string {
	switch {
	case math.IsNaN(value) || math.IsInf(value, 0):
		return "–"
	case math.Abs(value) < 10:
		return strconv.FormatFloat(value, 'f', 3, 64)
	case math.Abs(value) < 1000:
		return strconv.FormatFloat(value, 'f', 1, 64)
	}
	digits := strconv.FormatFloat(math.Abs(value), 'f', 0, 64)
	var grouped strings.Builder
	if value < 0 {
		grouped.WriteByte('-')
	}
	for i, digit := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			grouped.WriteByte(',')
		}
		grouped.WriteRune(digit)
	}
	return grouped.String()
}
