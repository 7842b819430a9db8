package conform

import (
	"fmt"
	"sync"
)

// State is what became of a rule.
type State string

// The states. Of several scenarios the worst one counts.
const (
	Kept     State = "kept"
	Broken   State = "broken"
	Departs  State = "departs"   // from a SHOULD
	NotShown State = "not shown" // the program gave no occasion, or the run ended before
)

// unplayedDetail is the detail of a rule that nothing was played for.
const unplayedDetail = "no scenario that was run looks at it"

// Finding is a rule and what was seen of it.
type Finding struct {
	Rule

	State    State  `json:"state"`
	Detail   string `json:"detail,omitempty"`   // what was seen, or why nothing was
	Scenario string `json:"scenario,omitempty"` // where
}

// findings gathers what scenarios see; scenarios share it.
type findings struct {
	mu   sync.Mutex
	seen map[string]Finding // by rule
}

func newFindings() *findings { return &findings{seen: map[string]Finding{}} }

// rank orders states: the higher one stays.
func rank(state State) int {
	switch state {
	case Broken:
		return 3
	case Departs:
		return 2
	case Kept:
		return 1
	default:
		return 0
	}
}

// add notes a finding unless there is a graver one, or the same with a detail.
func (f *findings) add(scenario, id string, state State, detail string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old, there := f.seen[id]
	if there && (rank(old.State) > rank(state) || rank(old.State) == rank(state) && old.Detail != "") {
		return
	}
	f.seen[id] = Finding{State: state, Detail: detail, Scenario: scenario}
}

// list gives all rules with what became of them.
func (f *findings) list() []Finding {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]Finding, 0, len(rules))
	for _, rule := range rules {
		finding, there := f.seen[rule.ID]
		if !there {
			finding = Finding{State: NotShown, Detail: unplayedDetail}
		}
		if finding.State == Broken && rule.Should {
			finding.State = Departs
		}
		finding.Rule = rule
		all = append(all, finding)
	}
	return all
}

func (s *stage) kept(id string) { s.findings.add(s.name, id, Kept, "") }

func (s *stage) keptAs(id, format string, args ...any) {
	s.findings.add(s.name, id, Kept, fmt.Sprintf(format, args...))
}

func (s *stage) broken(id, format string, args ...any) {
	s.findings.add(s.name, id, Broken, fmt.Sprintf(format, args...))
}

func (s *stage) notShown(id, format string, args ...any) {
	detail := fmt.Sprintf(format, args...)
	if why := s.programEnded(); why != "" {
		detail += "; " + why
	}
	s.findings.add(s.name, id, NotShown, detail)
}

// judge is kept, or broken with what was seen.
func (s *stage) judge(id string, kept bool, format string, args ...any) {
	if kept {
		s.kept(id)
		return
	}
	s.broken(id, format, args...)
}

// measure is judge for what is worth telling of a rule that is kept, too.
func (s *stage) measure(id string, kept bool, format string, args ...any) {
	if kept {
		s.keptAs(id, format, args...)
		return
	}
	s.broken(id, format, args...)
}
