package ingest

import (
	"sync"
	"time"

	"mooring/wire"
)

// hub knows every session: by device, for takeover and revocation, and in one
// list, for the timers and for Stop.
type hub struct {
	clock clock

	mu      sync.Mutex
	devices map[int32][]*session // opened or not; seldom more than one
	slots   []slot
	revoked []revocation // recent ones, oldest first
	reports []report     // gathered by sweep, reused
	told    *session     // the first of those that sweep has to deliver to
	telling int          // how many those are
}

// slot is a session in the timers' list. Looking through the list touches only
// due, so that 100,000 sessions cost a fraction of a millisecond.
type slot struct {
	due     int64 // when to look at the session next, by clock
	session *session
}

// revocation makes sure that a handshake which was checked before and arrives
// after a DropDevice does not slip through.
type revocation struct {
	device  int32
	tokenID int64
	serial  string // of a certificate; with it tokenID is 0
	at      int64
	code    wire.CloseCode
}

// report is a session's progress that is to be recorded.
type report struct {
	session  *session
	progress SessionProgress
}

func newHub(clock clock) *hub {
	return &hub{clock: clock, devices: make(map[int32][]*session)}
}

// add takes a session in, before it is opened.
func (h *hub) add(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.devices[s.device.ID] = append(h.devices[s.device.ID], s)
	s.slot = len(h.slots)
	h.slots = append(h.slots, slot{session: s}) // due at once: the timers look at it and decide
	for _, r := range h.revoked {
		if r.at >= s.begun && r.matches(s) {
			s.shut(closeDropped(r.code))
		}
	}
}

func (r revocation) matches(s *session) bool {
	switch {
	case r.device != s.device.ID:
		return false
	case r.serial != "":
		return r.serial == s.device.Serial
	default:
		return r.tokenID == 0 || r.tokenID == s.device.TokenID
	}
}

// remove forgets a session that ended.
func (h *hub) remove(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := len(h.slots) - 1
	h.slots[s.slot] = h.slots[last]
	h.slots[s.slot].session.slot = s.slot
	h.slots[last] = slot{}
	h.slots = h.slots[:last]

	of := h.devices[s.device.ID]
	for i, other := range of {
		if other == s {
			of[i] = of[len(of)-1]
			of[len(of)-1] = nil
			of = of[:len(of)-1]
			break
		}
	}
	if len(of) == 0 {
		delete(h.devices, s.device.ID)
	} else {
		h.devices[s.device.ID] = of
	}
}

// claim makes an opened session its device's one: of all opened ones the one
// with the highest number stays, whichever of them gets here first.
func (h *hub) claim(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.slots[s.slot].due = 0 // its heartbeat is known now
	number := s.number.Load()
	for _, other := range h.devices[s.device.ID] {
		switch theirs := other.number.Load(); {
		case other == s || theirs == 0:
		case theirs < number:
			other.shut(closeReplaced)
		default:
			s.shut(closeReplaced)
		}
	}
}

// replace ends the device's session with this number; other sessions stay.
func (h *hub) replace(device int32, number int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.devices[device] {
		if s.number.Load() == number {
			s.shut(closeReplaced)
		}
	}
}

// attend has the timers look at a session that woke up, in time for its next rest.
func (h *hub) attend(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	due := &h.slots[s.slot].due
	*due = min(*due, h.clock.now()+int64(s.gateway.cfg.RestAfter))
}

// current is the device's session that commands go to; nil: none.
func (h *hub) current(device int32) *session {
	h.mu.Lock()
	defer h.mu.Unlock()
	var newest *session
	for _, s := range h.devices[device] {
		if s.number.Load() != 0 && (newest == nil || s.number.Load() > newest.number.Load()) {
			newest = s
		}
	}
	return newest
}

// drop ends the device's sessions that use the token, or all of them.
func (h *hub) drop(device int32, tokenID int64, code wire.CloseCode) int {
	return h.dropMatching(revocation{device: device, tokenID: tokenID, code: code})
}

func (h *hub) dropMatching(r revocation) int {
	r.at = h.clock.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.revoked = append(h.revoked, r)
	dropped := 0
	for _, s := range h.devices[r.device] {
		if r.matches(s) {
			s.shut(closeDropped(r.code))
			dropped++
		}
	}
	return dropped
}

// forget drops revocations that no handshake under way can be older than.
func (h *hub) forget(before int64) {
	keep := 0
	for keep < len(h.revoked) && h.revoked[keep].at < before {
		keep++
	}
	h.revoked = append(h.revoked[:0], h.revoked[keep:]...)
}

// snapshot lists all sessions.
func (h *hub) snapshot() []*session {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]*session, len(h.slots))
	for i := range h.slots {
		all[i] = h.slots[i].session
	}
	return all
}

// tell has sweep deliver to a session, together with others: a goroutine and a
// deadline for each Ping cost more than its system call. h.mu is held.
func (h *hub) tell(s *session) {
	s.nextTold, h.told = h.told, s
	h.telling++
}

// deliver starts what tell has asked for. h.mu is held.
func (h *hub) deliver() {
	if h.told != nil {
		go deliver(h.told)
		h.told, h.telling = nil, 0
	}
}

// sweep looks at every session that is due, and afterwards hands on the progress
// that is to be recorded.
func (h *hub) sweep(now int64, handshake time.Duration, record func(SessionProgress)) {
	h.mu.Lock()
	h.forget(now - 2*int64(handshake))
	for i := range h.slots {
		if h.slots[i].due <= now {
			s := h.slots[i].session
			h.slots[i].due = s.tick(now)
			if h.telling == manyLetters {
				h.deliver()
			}
			if progress, due := s.progressDue(now); due {
				h.reports = append(h.reports, report{s, progress})
			}
		}
	}
	h.deliver()
	reports := h.reports
	h.reports = nil
	h.mu.Unlock()

	for i := range reports {
		record(reports[i].progress)
	}
	clear(reports)
	h.mu.Lock()
	h.reports = reports[:0]
	h.mu.Unlock()
}
