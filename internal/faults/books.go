//go:build linux

package faults

import (
	"sync"
	"syscall"
)

// closeBooks stops every server that runs, so that each session has its last
// counts on record: the view mooring.books excuses what an open session has not
// written yet, and the audit with it.
func (s *Stage) closeBooks() {
	s.tb.Helper()
	s.mu.Lock()
	servers := s.servers
	s.mu.Unlock()
	var stopping sync.WaitGroup
	for _, server := range servers {
		if server.process == nil || !server.Alive() {
			continue
		}
		stopping.Go(func() {
			server.Signal(syscall.SIGTERM)
			code, err := server.process.wait(Patience)
			if err != nil || code != 0 {
				s.tb.Errorf("server %s, stopped at the scenario's end, ended with %d, %v", server.options.Name, code, err)
			}
		})
	}
	stopping.Wait()
}

// onRecord are the sessions whose server wrote their last counts; whole, devices
// that have no others. Of the rest, part died with a server.
const onRecord = `
WITH session AS (
    SELECT s.*, s.booked AND NOT s.incomplete AND s.disconnected_at IS NOT NULL AS finished FROM mooring.sessions s
), device AS (
    SELECT d.id, d.name, bool_and(s.finished) AS whole, sum(s.rows_committed) AS committed, sum(s.rows_duplicate) AS duplicate,
           sum(s.rows_rejected) AS refused, sum(s.rows_returned) AS returned
      FROM session s JOIN mooring.devices d ON d.id = s.device_id GROUP BY d.id
) `

// A session by itself: what it received is what became of it.
const unbalancedSessions = onRecord + `
SELECT 'session ' || s.id || ' of ' || d.name || ': ' || s.rows_in || ' received, ' || s.rows_committed || ' committed, '
       || s.rows_duplicate || ' duplicate, ' || s.rows_rejected || ' refused, ' || s.rows_returned || ' returned, ' || s.rows_waiting || ' waiting'
  FROM session s JOIN mooring.devices d ON d.id = s.device_id
 WHERE s.finished AND (s.rows_waiting <> 0 OR s.rows_in <> s.rows_committed + s.rows_duplicate + s.rows_rejected + s.rows_returned)
 ORDER BY s.id LIMIT 10`

// The two parties that count agree: the servers per session, and the store in
// the transactions that store rows.
const partiesDiffer = onRecord + `
SELECT d.name || ': sessions say ' || d.committed || ' committed and ' || d.duplicate || ' duplicate, the store '
       || b.committed || ' and ' || b.duplicate
  FROM device d JOIN mooring.books b ON b.device = d.name
 WHERE NOT b.older
   AND CASE WHEN d.whole THEN (d.committed, d.duplicate) <> (b.committed, b.duplicate)
            ELSE d.committed + d.duplicate > b.committed + b.duplicate END
 ORDER BY d.name LIMIT 10`

// Refused rows are in the log of refusals, one by one as long as its limit per
// minute is not reached. Rows that were returned may be there or not.
const comparableRefusals = `
  FROM device d
 CROSS JOIN LATERAL (
       SELECT coalesce(sum(r.n) FILTER (WHERE r.channel IS NULL), 0) AS rows, coalesce(bool_or(r.code = 'NOT_RECORDED'), false) AS cut
         FROM mooring.rejects r WHERE r.device_id = d.id) log
 WHERE d.whole AND d.returned = 0 AND NOT log.cut`

const (
	refusalsDiffer = onRecord + `
SELECT d.name || ': sessions say ' || d.refused || ' refused, mooring.rejects has ' || log.rows` + comparableRefusals + `
   AND d.refused <> log.rows ORDER BY d.name LIMIT 10`
	refusalsCompared = onRecord + `SELECT count(*)` + comparableRefusals + ` AND d.refused > 0`
	finishedSessions = onRecord + `SELECT count(*) FROM session WHERE finished AND rows_in > 0`
)

// compareBooks fails the test if the sessions' records, which closeBooks had
// completed, do not balance each by itself, or say other than the store.
func (s *Stage) compareBooks() {
	s.tb.Helper()
	if s.SQL(finishedSessions)[0][0] == "0" {
		s.tb.Error("no session with rows has its last counts on record, so no books were compared")
	}
	for _, check := range []struct{ what, query string }{
		{"sessions do not balance", unbalancedSessions},
		{"sessions and store differ", partiesDiffer},
	} {
		if bad := s.SQL(check.query); len(bad) > 0 {
			s.tb.Errorf("%s: %v", check.what, bad)
		}
	}
	if !s.options.Refusals {
		return
	}
	if bad := s.SQL(refusalsDiffer); len(bad) > 0 {
		s.tb.Errorf("sessions and the log of refusals differ: %v", bad)
	}
	if s.SQL(refusalsCompared)[0][0] == "0" {
		s.tb.Error("of no device could refusals be compared")
	}
}
