package devices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const selectCommands = `
SELECT c.id, d.name, c.name, c.args, c.state, c.idempotent, c.asked_by, c.created_at, c.created_at + ` + lifetime + `,
       c.sent_at, c.accepted_at, c.finished_at, c.status, c.detail, COALESCE(c.note, '')
  FROM mooring.commands c JOIN mooring.devices d ON d.id = c.device_id
`

func scanCommand(row pgx.CollectableRow) (Command, error) {
	var (
		c                        Command
		args, detail             []byte
		sent, accepted, finished *time.Time
	)
	err := row.Scan(&c.ID, &c.Device, &c.Name, &args, &c.State, &c.Idempotent, &c.AskedBy, &c.Created, &c.Expires,
		&sent, &accepted, &finished, &c.Status, &detail, &c.Note)
	c.Args, c.Detail = json.RawMessage(args), json.RawMessage(detail)
	c.Sent, c.Accepted, c.Finished = orZero(sent), orZero(accepted), orZero(finished)
	return c, err
}

// Command reads one command. The error is ErrNoCommand or the database's.
func (a *Admin) Command(ctx context.Context, id int64) (Command, error) {
	list, err := a.readCommands(ctx, selectCommands+`WHERE c.id = $1`, id)
	if err != nil {
		return Command{}, err
	}
	if len(list) == 0 {
		return Command{}, fmt.Errorf("%w: %d", ErrNoCommand, id)
	}
	return list[0], nil
}

// CommandFilter says which commands to list.
type CommandFilter struct {
	Device string // of this device; empty: of all
	Open   bool   // only those whose end is still to come
	Before int64  // only with a smaller number: the last one of the page before; 0: from the newest on
	Limit  int    // at most so many, up to MaxPage. Defaults to 100
}

// Commands lists commands, newest first. The error is ErrNotFound or the
// database's.
func (a *Admin) Commands(ctx context.Context, filter CommandFilter) ([]Command, error) {
	if filter.Device != "" {
		var known bool
		if err := a.pool.QueryRow(ctx, `SELECT true FROM mooring.devices WHERE name = $1`, filter.Device).Scan(&known); err != nil {
			return nil, explain("list the commands of", filter.Device, err)
		}
	}
	return a.readCommands(ctx, selectCommands+`
WHERE ($1 = '' OR d.name = $1) AND (NOT $2 OR c.state IN ('queued', 'sent', 'accepted')) AND ($3 = 0 OR c.id < $3)
ORDER BY c.id DESC LIMIT $4`,
		filter.Device, filter.Open, filter.Before, min(orDefault(filter.Limit, 100), MaxPage))
}

func (a *Admin) readCommands(ctx context.Context, query string, args ...any) ([]Command, error) {
	rows, err := a.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read commands: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanCommand)
	if err != nil {
		return nil, fmt.Errorf("read commands: %w", err)
	}
	return list, nil
}

// CommandSteps is the history of a command, oldest first.
func (a *Admin) CommandSteps(ctx context.Context, id int64) ([]CommandStep, error) {
	rows, err := a.pool.Query(ctx, `
SELECT at, state, COALESCE(gateway, ''), COALESCE(session_id, 0), status, detail, COALESCE(note, '')
  FROM mooring.command_steps WHERE command_id = $1 ORDER BY at, state`, id)
	if err != nil {
		return nil, fmt.Errorf("read the history of command %d: %w", id, err)
	}
	steps, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (CommandStep, error) {
		var step CommandStep
		var detail []byte
		err := row.Scan(&step.At, &step.State, &step.Gateway, &step.Session, &step.Status, &detail, &step.Note)
		step.Detail = json.RawMessage(detail)
		return step, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the history of command %d: %w", id, err)
	}
	return steps, nil
}

// rereadEvery is how often waiting callers look even if no news came.
const rereadEvery = 2 * time.Second

// WatchCommands calls changed with each of the commands as it is now, and again
// whenever it changed, and returns when all have ended, changed returned an
// error, or ctx ended.
func (a *Admin) WatchCommands(ctx context.Context, ids []int64, changed func(Command) error) error {
	conn, err := a.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("watch commands: %w", err)
	}
	defer func() {
		// Listening would go on in the pool.
		_ = conn.Conn().Close(context.WithoutCancel(ctx))
		conn.Release()
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+newsChannel); err != nil {
		return fmt.Errorf("watch commands: %w", err)
	}
	known := make(map[int64]Command, len(ids))
	waiting := slices.Clone(ids)
	for {
		list, err := a.readCommands(ctx, selectCommands+`WHERE c.id = ANY ($1) ORDER BY c.id`, waiting)
		if err != nil {
			return err
		}
		for _, command := range list {
			if same(known[command.ID], command) {
				continue
			}
			known[command.ID] = command
			if err := changed(command); err != nil {
				return err
			}
		}
		waiting = slices.DeleteFunc(waiting, func(id int64) bool { return known[id].ID == 0 || known[id].State.Ended() })
		if len(waiting) == 0 {
			return nil
		}
		if err := awaitNews(ctx, conn.Conn(), waiting); err != nil {
			return fmt.Errorf("watch commands: %w", err)
		}
	}
}

func same(a, b Command) bool {
	return a.State == b.State && a.Note == b.Note && string(a.Detail) == string(b.Detail) && a.Sent.Equal(b.Sent)
}

// awaitNews waits until one of the commands changed, or for rereadEvery.
func awaitNews(ctx context.Context, conn *pgx.Conn, ids []int64) error {
	waiting, cancel := context.WithTimeout(ctx, rereadEvery)
	defer cancel()
	for {
		news, err := conn.WaitForNotification(waiting)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			return nil
		default:
			return err
		}
		for field := range strings.SplitSeq(news.Payload, ",") {
			if id, err := strconv.ParseInt(field, 10, 64); err == nil && slices.Contains(ids, id) {
				return nil
			}
		}
	}
}
