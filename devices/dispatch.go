package devices

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"mooring/wire"
)

const (
	commandsChannel = "mooring_commands"     // for gateways: which devices have commands
	newsChannel     = "mooring_command_news" // for those who watch: which commands changed

	sweepCommandsEvery  = 5 * time.Second
	reloadCommandsEvery = time.Minute
)

// dispatcher delivers commands to the devices that this gateway holds, and
// records their answers. One goroutine does both, so that an answer is never
// recorded before its command was.
//
// A command is delivered at most once because it is committed as sent before it
// is sent. What is lost between the two, with the gateway, expires unanswered.
type dispatcher struct {
	wake    chan struct{} // capacity 1
	metrics *prometheus.CounterVec
	some    atomic.Bool // pending may hold something: a look costs welcomed devices no lock

	mu      sync.Mutex
	send    CommandSender          // nil: nobody is connected yet
	pending map[int32]struct{}     // devices that may have something to be delivered; read anew now and then
	due     map[int32]struct{}     // those of them to try now
	again   map[int32]struct{}     // and those to try at the next sweep
	reload  bool                   // pending may lack some
	results []commandResult        // at most maxResultsQueued
	undo    map[int64]undoneReason // claimed, never sent, to be put back
}

// undoneReason is why a command that was claimed for a session is given back.
type undoneReason struct {
	state   CommandState
	note    string
	session int64
}

func newDispatcher(registerer prometheus.Registerer) *dispatcher {
	d := &dispatcher{
		wake: make(chan struct{}, 1), pending: make(map[int32]struct{}), due: make(map[int32]struct{}),
		again: make(map[int32]struct{}), undo: make(map[int64]undoneReason), reload: true,
		metrics: promauto.With(registerer).NewCounterVec(prometheus.CounterOpts{
			Name: "mooring_commands_total",
			Help: "Commands and answers by what happened to them: sent, put back (the device was gone), too large, answered, unknown answer (nobody waits for it), lost answer (too many waited for Postgres).",
		}, []string{"event"}),
	}
	for _, event := range []string{"sent", "put back", "too large", "answered", "unknown answer", "lost answer"} {
		d.metrics.WithLabelValues(event)
	}
	return d
}

// DispatchCommands says how commands reach the devices that are connected here.
// Until then none is delivered.
func (r *Registry) DispatchCommands(send CommandSender) {
	d := r.dispatcher
	d.mu.Lock()
	d.send, d.reload = send, true
	d.mu.Unlock()
	signal(d.wake)
}

// Welcomed says that commands can be sent to a device now. It never blocks.
func (r *Registry) Welcomed(device int32) {
	if r.dispatcher.some.Load() {
		r.dispatcher.arrived(device)
	}
}

func (d *dispatcher) arrived(device int32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.pending[device]; ok {
		d.due[device] = struct{}{}
		signal(d.wake)
	}
}

// heardQueued notes the devices of a notification. Like all of them it is a hint.
func (r *Registry) heardQueued(payload string) {
	list, ok := strings.CutPrefix(payload, "queued ")
	if !ok {
		return
	}
	d := r.dispatcher
	d.mu.Lock()
	defer d.mu.Unlock()
	for field := range strings.SplitSeq(list, ",") {
		if device, err := strconv.ParseInt(field, 10, 32); err == nil {
			d.pending[int32(device)] = struct{}{}
			d.due[int32(device)] = struct{}{}
		}
	}
	d.some.Store(true)
	signal(d.wake)
}

// missed says that notifications may have been lost.
func (d *dispatcher) missed() {
	d.mu.Lock()
	d.reload = true
	d.mu.Unlock()
	signal(d.wake)
}

// runDispatch delivers and records until stop ends; operations ends statements
// that are under way.
func (r *Registry) runDispatch(stop, operations context.Context) {
	d := r.dispatcher
	sweep := time.NewTicker(sweepCommandsEvery)
	defer sweep.Stop()
	reload := time.NewTicker(reloadCommandsEvery)
	defer reload.Stop()
	complained := false
	for {
		var err error
		select {
		case <-stop.Done():
			// What devices answered is worth a last try.
			_ = errors.Join(r.recordResults(operations), r.putBack(operations))
			return
		case <-reload.C:
			d.missed()
			continue
		case <-sweep.C:
			err = r.expireCommands(operations)
			d.retry()
		case <-d.wake:
		}
		err = errors.Join(err, r.putBack(operations), r.recordResults(operations), r.reloadCommands(operations), r.deliver(operations))
		if err != nil && !complained && operations.Err() == nil {
			r.config.Logger.Warn("commands wait: can't read or write them; trying again", "error", err)
		}
		complained = err != nil
	}
}

// retry makes due what could not be done before: outboxes may have room now, or
// Postgres be back.
func (d *dispatcher) retry() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for device := range d.again {
		d.due[device] = struct{}{}
	}
	clear(d.again)
	if len(d.due) > 0 || len(d.results) > 0 || len(d.undo) > 0 || d.reload {
		signal(d.wake)
	}
}

// reloadCommands finds what no notification told of.
func (r *Registry) reloadCommands(ctx context.Context) error {
	d := r.dispatcher
	d.mu.Lock()
	reload := d.reload && d.send != nil
	if reload {
		d.reload = false
		clear(d.pending) // what is told meanwhile is added
	}
	d.mu.Unlock()
	if !reload {
		return nil
	}
	ctx, cancel := context.WithTimeout(withPurpose(ctx, "commands"), r.config.Wait)
	defer cancel()
	rows, err := r.pool.Query(ctx, `
SELECT DISTINCT device_id FROM mooring.commands
 WHERE (state = 'queued' OR state = 'sent' AND idempotent) AND created_at + `+lifetime+` > now()`)
	var devices []int32
	if err == nil {
		devices, err = pgx.CollectRows(rows, pgx.RowTo[int32])
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.reload = true
		return fmt.Errorf("find commands: %w", err)
	}
	for _, device := range devices {
		d.pending[device] = struct{}{}
		d.due[device] = struct{}{}
	}
	d.some.Store(len(d.pending) > 0)
	return nil
}

// takeDue takes the devices to try that are here, each with its connection.
func (d *dispatcher) takeDue(book *book) (devices []int32, sessions []int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.send == nil {
		return nil, nil
	}
	for device := range d.due {
		if len(devices) == commandsAtOnce {
			signal(d.wake)
			break
		}
		delete(d.due, device)
		if session := book.newest(device); session != 0 {
			devices, sessions = append(devices, device), append(sessions, session)
		}
	}
	return devices, sessions
}

// lifetime is a command's ttl as far as can be computed with: a row made by hand may
// hold any interval, and one that is out of range would fail the statement for all.
const lifetime = `greatest(interval '0', least(ttl, interval '10 years'))`

// claimCommands marks as sent what is to be delivered now: of each device the
// oldest, as many as may be unanswered at once, and only if no other gateway
// has a newer connection of it. What is idempotent and was sent on an older
// connection is sent again.
const claimCommands = `
WITH here AS (
    SELECT * FROM unnest($1::int4[], $2::int8[]) AS u (device, session)
     WHERE NOT EXISTS (SELECT FROM mooring.sessions s WHERE s.device_id = u.device AND s.id > u.session)
), chosen AS (
    SELECT c.id, here.session
      FROM here
     CROSS JOIN LATERAL (
           SELECT o.id FROM mooring.commands o
            WHERE o.device_id = here.device
              AND (o.state = 'queued' OR o.state = 'sent' AND o.idempotent AND o.session_id < here.session)
              AND o.created_at + ` + lifetime + ` > now()
            ORDER BY o.id
            LIMIT greatest(0, $3 - (SELECT count(*) FROM mooring.commands s
                                     WHERE s.device_id = here.device AND s.state = 'sent'
                                       AND NOT (s.idempotent AND s.session_id < here.session)))
              FOR UPDATE SKIP LOCKED) c
)
UPDATE mooring.commands c
   SET state = 'sent', sent_at = clock_timestamp(), gateway = $4, session_id = chosen.session, note = NULL
  FROM chosen
 WHERE c.id = chosen.id
RETURNING c.id, c.device_id, c.session_id, c.name, c.args, ceil(extract(epoch FROM c.created_at + ` + lifetime + ` - now()))::int4, c.idempotent`

// claimed is a command that is this gateway's to send.
type claimed struct {
	id         int64
	device     int32
	session    int64
	name       string
	args       []byte // JSON; nil: none
	ttl        int
	idempotent bool
}

// deliver claims and sends what is due.
func (r *Registry) deliver(ctx context.Context) error {
	d := r.dispatcher
	devices, sessions := d.takeDue(r.book)
	if len(devices) == 0 {
		return nil
	}
	bounded, cancel := context.WithTimeout(withPurpose(ctx, "commands"), r.config.Wait)
	defer cancel()
	rows, err := r.pool.Query(bounded, claimCommands, devices, sessions, maxUnanswered, r.config.Gateway)
	var list []claimed
	if err == nil {
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c claimed, err error) {
			err = row.Scan(&c.id, &c.device, &c.session, &c.name, &c.args, &c.ttl, &c.idempotent)
			return c, err
		})
	}
	if err != nil {
		d.mu.Lock()
		for _, device := range devices {
			d.again[device] = struct{}{}
		}
		d.mu.Unlock()
		return fmt.Errorf("claim commands: %w", err)
	}
	slices.SortFunc(list, func(a, b claimed) int { return cmp.Compare(a.id, b.id) })
	for i := range list {
		d.deliverOne(&list[i])
	}
	return r.putBack(ctx)
}

// deliverOne sends a claimed command, or notes why it must be given back.
func (d *dispatcher) deliverOne(c *claimed) {
	command := wire.Command{ID: c.id, Name: c.name, TTL: max(c.ttl, 1)}
	if c.idempotent {
		command.Flags |= wire.FlagIdempotent
	}
	var err error
	if c.args != nil {
		command.Args, err = wire.ValueFromJSON(c.args)
	}
	if err != nil || !wire.IsName(c.name) { // entered by hand
		d.giveBack(c, CommandRefused, "its name or its args can't be sent: see PROTOCOL.md, COMMAND")
		return
	}
	d.mu.Lock()
	send := d.send
	delete(d.undo, c.id) // of an earlier claim: it was given back, or this one could not be
	d.mu.Unlock()
	switch err := send(c.device, command); {
	case err == nil:
		d.metrics.WithLabelValues("sent").Inc()
	case errors.Is(err, ErrTooLarge):
		d.metrics.WithLabelValues("too large").Inc()
		d.giveBack(c, CommandRefused, ErrTooLarge.Error())
	default:
		d.metrics.WithLabelValues("put back").Inc()
		d.giveBack(c, CommandQueued, err.Error())
	}
}

func (d *dispatcher) giveBack(c *claimed, state CommandState, note string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.undo[c.id] = undoneReason{state, note, c.session}
	d.again[c.device] = struct{}{}
}

// putBack records that claimed commands were not sent. It may have done so before,
// and not have heard of it: who has claimed them since, for another session, has
// perhaps sent them.
func (r *Registry) putBack(ctx context.Context) error {
	d := r.dispatcher
	var ids, sessions []int64
	var states, notes []string
	d.mu.Lock()
	for id, reason := range d.undo {
		ids, sessions = append(ids, id), append(sessions, reason.session)
		states, notes = append(states, string(reason.state)), append(notes, reason.note)
	}
	d.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(withPurpose(ctx, "commands"), r.config.Wait)
	defer cancel()
	_, err := r.pool.Exec(ctx, `
UPDATE mooring.commands c
   SET state = u.state, note = u.note, sent_at = NULL,
       finished_at = CASE WHEN u.state = 'queued' THEN NULL ELSE now() END
  FROM unnest($1::int8[], $2::text[], $3::text[], $4::int8[]) AS u (id, state, note, session)
 WHERE c.id = u.id AND c.state = 'sent' AND c.session_id = u.session`, ids, states, notes, sessions)
	if err != nil {
		return fmt.Errorf("put commands back: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		delete(d.undo, id)
	}
	return nil
}
