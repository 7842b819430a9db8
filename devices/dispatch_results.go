package devices

import (
	"context"
	"fmt"

	"mooring/wire"
)

// commandResult is a device's answer on its way to the database.
type commandResult struct {
	id     int64
	device int32
	state  CommandState
	status int16
	detail *string // JSON
}

// CommandResult notes a device's answer to a command. It never blocks; what
// finds no room while Postgres is away is counted as lost, and its command
// expires.
func (r *Registry) CommandResult(device int32, result wire.Result) {
	answer := commandResult{id: result.ID, device: device, state: stateOf(result.Status), status: int16(result.Status)}
	if result.Detail != nil {
		if text, err := wire.ValueToJSON(result.Detail); err == nil {
			detail := string(text)
			answer.detail = &detail
		}
	}
	d := r.dispatcher
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.results) >= maxResultsQueued {
		d.metrics.WithLabelValues("lost answer").Inc()
		return
	}
	d.results = append(d.results, answer)
	signal(d.wake)
}

// takeResults takes the answers up to the second one of the same command: one
// statement changes a row once.
func (d *dispatcher) takeResults() []commandResult {
	d.mu.Lock()
	defer d.mu.Unlock()
	seen := make(map[int64]struct{}, len(d.results))
	n := 0
	for n < len(d.results) && n < 1024 {
		if _, again := seen[d.results[n].id]; again {
			break
		}
		seen[d.results[n].id] = struct{}{}
		n++
	}
	return d.results[:n:n]
}

// recorded drops the first n answers, and makes their devices due: they may be
// sent more.
func (d *dispatcher) recorded(results []commandResult) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, result := range results {
		if _, ok := d.pending[result.device]; ok && result.state.Ended() {
			d.due[result.device] = struct{}{}
		}
	}
	d.results = d.results[len(results):]
	if len(d.results) == 0 {
		d.results = nil
	}
}

// recordCommandResults believes a device only what concerns a command of its
// own, and a later word over an expiry that was a guess.
const recordCommandResults = `
UPDATE mooring.commands c
   SET state = r.state, status = r.status, detail = r.detail::jsonb, note = NULL,
       accepted_at = CASE WHEN r.state = 'accepted' THEN COALESCE(c.accepted_at, now()) ELSE c.accepted_at END,
       finished_at = CASE WHEN r.state = 'accepted' THEN NULL ELSE now() END
  FROM unnest($1::int8[], $2::int4[], $3::text[], $4::int2[], $5::text[]) AS r (id, device, state, status, detail)
 WHERE c.id = r.id AND c.device_id = r.device
   AND (c.state IN ('sent', 'accepted') OR c.state = 'expired' AND c.sent_at IS NOT NULL AND c.status IS NULL)`

// recordResults writes the answers that wait.
func (r *Registry) recordResults(ctx context.Context) error {
	for {
		results := r.dispatcher.takeResults()
		if len(results) == 0 {
			return nil
		}
		var (
			ids     = make([]int64, len(results))
			devices = make([]int32, len(results))
			states  = make([]string, len(results))
			status  = make([]int16, len(results))
			details = make([]*string, len(results))
		)
		for i, result := range results {
			ids[i], devices[i], states[i], status[i], details[i] = result.id, result.device, string(result.state), result.status, result.detail
		}
		bounded, cancel := context.WithTimeout(withPurpose(ctx, "commands"), r.config.Wait)
		tag, err := r.pool.Exec(bounded, recordCommandResults, ids, devices, states, status, details)
		cancel()
		if err != nil {
			return fmt.Errorf("record answers to commands: %w", err)
		}
		known := float64(tag.RowsAffected())
		r.dispatcher.metrics.WithLabelValues("answered").Add(known)
		r.dispatcher.metrics.WithLabelValues("unknown answer").Add(float64(len(results)) - known)
		r.dispatcher.recorded(results)
	}
}

// expireOpenCommands ends what nobody will end any more. Every gateway does so;
// they skip what another one has locked.
const expireOpenCommands = `
UPDATE mooring.commands c
   SET state = CASE c.state WHEN 'accepted' THEN 'failed' ELSE 'expired' END, finished_at = now(),
       note = CASE c.state
              WHEN 'queued' THEN 'the device was not there in time'
              WHEN 'sent' THEN 'it was sent, but no answer came: it may have been carried out, or not'
              ELSE 'the device began, and never said how it ended' END
 WHERE c.id IN (
       SELECT o.id FROM mooring.commands o
        WHERE o.state IN ('queued', 'sent', 'accepted')
          AND now() > CASE o.state
                      WHEN 'queued' THEN o.created_at + ` + lifetime + `
                      WHEN 'sent' THEN o.created_at + ` + lifetime + ` + make_interval(secs => $1)
                      ELSE greatest(o.created_at + ` + lifetime + `, o.accepted_at) + make_interval(secs => $2) END
        LIMIT 5000 FOR UPDATE SKIP LOCKED)`

func (r *Registry) expireCommands(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(withPurpose(ctx, "commands"), r.config.Wait)
	defer cancel()
	if _, err := r.pool.Exec(ctx, expireOpenCommands, answerGrace.Seconds(), acceptedFor.Seconds()); err != nil {
		return fmt.Errorf("expire commands: %w", err)
	}
	return nil
}
