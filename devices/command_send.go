package devices

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// insertCommands queues a command for each of the chosen devices. One that can't
// come to anything is entered as refused, so that its history shows it.
const insertCommands = `
INSERT INTO mooring.commands (device_id, name, args, ttl, idempotent, asked_by, state, note, finished_at)
SELECT d.id, $1, $2::jsonb, make_interval(secs => $3), $4, COALESCE(NULLIF($5, ''), current_user),
       CASE WHEN problem.text IS NULL THEN 'queued' ELSE 'refused' END, problem.text,
       CASE WHEN problem.text IS NOT NULL THEN now() END
  FROM mooring.devices d
 CROSS JOIN LATERAL (
       SELECT CASE WHEN d.disabled THEN 'the device is disabled'
                   WHEN (SELECT count(*) FROM mooring.commands o
                          WHERE o.device_id = d.id AND o.state IN ('queued', 'sent', 'accepted')) >= $6
                   THEN 'too many commands of this device are open; at most ' || $6::text || ' may be' END AS text) problem
`

// SendCommand queues a command for a device and returns it as entered. Whichever
// gateway holds the device delivers it, at once or when the device comes back
// within the time to live. A device that is disabled, or has MaxOpenCommands
// open, gets it as CommandRefused. The errors are ErrNotFound, a *FieldError, or
// the database's.
func (a *Admin) SendCommand(ctx context.Context, device string, command NewCommand) (Command, error) {
	command, err := command.check()
	if err != nil {
		return Command{}, err
	}
	var id int64
	err = a.pool.QueryRow(ctx, insertCommands+`WHERE d.name = $7 RETURNING id`, append(command.arguments(), device)...).Scan(&id)
	if err != nil {
		return Command{}, explain("send a command to", device, err)
	}
	return a.Command(ctx, id)
}

func (c *NewCommand) arguments() []any {
	var args any
	if len(c.Args) > 0 {
		args = string(c.Args)
	}
	return []any{c.Name, args, c.TTL.Seconds(), c.Idempotent, c.AskedBy, MaxOpenCommands}
}

// Recipients says to which devices a command goes: those of which all that is
// set here is true.
type Recipients struct {
	All    bool              // every device; nothing else may be set
	Model  string            // of this model, as registered
	Labels map[string]string // with all these labels
}

// Broadcast queues a command for many devices, in one transaction, and returns
// the commands' numbers in the order of the devices' names. The errors are a
// *FieldError or the database's; that no device fits is none.
func (a *Admin) Broadcast(ctx context.Context, to Recipients, command NewCommand) ([]int64, error) {
	command, err := command.check()
	if err != nil {
		return nil, err
	}
	chosen := to.Model != "" || len(to.Labels) > 0
	if to.All == chosen {
		return nil, &FieldError{"recipients", "need either a model, labels or both, or all devices"}
	}
	labels, err := encodeLabels(to.Labels)
	if err != nil {
		return nil, err
	}
	rows, err := a.pool.Query(ctx, insertCommands+`
WHERE ($7 = '' OR d.model = $7) AND d.labels @> $8::jsonb ORDER BY d.name RETURNING id`,
		append(command.arguments(), to.Model, labels)...)
	if err != nil {
		return nil, fmt.Errorf("send a command to many devices: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("send a command to many devices: %w", err)
	}
	return ids, nil
}

// ErrNoCommand means that there is no command of this number, or none any more.
var ErrNoCommand = errors.New("no such command")
