package fleet

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"mooring/client"
)

// tallies count what happened to the devices. Safe for concurrent use.
type tallies struct {
	mu       sync.Mutex
	closes   map[string]uint64 // ends of connections and attempts, by reason
	links    map[string]uint64 // faults of connections that begun
	connects uint64
	rowsSent uint64 // retransmissions included
	frames   uint64
	bytes    uint64
	dropped  uint64
	poisoned uint64
	lastErr  error // why a connection or an attempt ended last
}

func (t *tallies) disconnected(event client.Event) {
	reason := fmt.Sprintf("%d %s", event.Code, event.Code)
	if event.Status != 0 {
		reason = fmt.Sprintf("HTTP %d", event.Status)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closes == nil {
		t.closes = make(map[string]uint64)
	}
	t.closes[reason]++
	if event.Err != nil {
		t.lastErr = event.Err
	}
}

func (t *tallies) link(fault linkFault) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.links == nil {
		t.links = make(map[string]uint64)
	}
	t.links[fault.String()]++
}

// client adds the totals of a client that has ended.
func (t *tallies) client(stats *client.Stats) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.connects += stats.Connects
	t.rowsSent += stats.RowsSent
	t.frames += stats.FramesSent
	t.bytes += stats.BytesSent
	t.dropped += stats.RowsDropped
	t.poisoned += stats.Poisoned
}

// inputTallies count what intruders did and what came of it.
type inputTallies struct {
	mu     sync.Mutex
	byName map[string]*InputTally
}

// InputTally is one kind of misdeed over raw sockets.
type InputTally struct {
	Name      string `json:"name"`                // begins with the line of PROTOCOL §11, if it is one
	AsStated  uint64 `json:"as_stated"`           // answered as the protocol states
	Disturbed uint64 `json:"disturbed,omitempty"` // no answer, because something else happened first
	Otherwise uint64 `json:"otherwise,omitempty"` // answered in another way
	Detail    string `json:"detail,omitempty"`    // of the last of those
}

func (t *inputTallies) add(name string, result outcome, detail string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byName == nil {
		t.byName = make(map[string]*InputTally)
	}
	tally := t.byName[name]
	if tally == nil {
		tally = &InputTally{Name: name}
		t.byName[name] = tally
	}
	switch result {
	case asStated:
		tally.AsStated++
	case disturbed:
		tally.Disturbed++
	case otherwise:
		tally.Otherwise++
		tally.Detail = detail
	}
}

func (t *inputTallies) list() []InputTally {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []InputTally
	for _, name := range slices.Sorted(maps.Keys(t.byName)) {
		list = append(list, *t.byName[name])
	}
	return list
}
