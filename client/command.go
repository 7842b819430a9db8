package client

import (
	"context"
	"time"

	"github.com/lxzan/gws"

	"mooring/wire"
)

// Bounds of the command side. Beyond them: a command is answered with BUSY, the
// oldest answer is dropped and counted, and the oldest id is forgotten.
const (
	maxCommands   = 4
	maxResults    = 16
	rememberedIDs = 64
)

// commandState is what a client keeps about commands, across connections.
// Guarded by Client.mu, but for the queue.
type commandState struct {
	queue   chan queuedCommand // nil: no worker runs
	results []wire.Result      // to be sent
	open    int                // commands taken whose answer is not sent
	seen    []seenCommand      // the latest, oldest first
}

type queuedCommand struct {
	command wire.Command
	expires time.Time // zero: never
}

// seenCommand makes a command run at most once. Its answer may be asked for
// again, when the one sent was lost with its connection.
type seenCommand struct {
	id       int64
	answered bool
	result   wire.Result
}

// command takes a command from the server.
func (l *link) command(command wire.Command) {
	c := l.client
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.kick()
	if c.cfg.OnCommand == nil {
		c.commands.open++
		c.reply(wire.Result{ID: command.ID, Status: wire.ResultUnknown})
		return
	}
	if command.Flags&wire.FlagIdempotent == 0 {
		for i := range c.commands.seen {
			if seen := &c.commands.seen[i]; seen.id == command.ID {
				if seen.answered {
					c.commands.open++
					c.reply(seen.result)
				}
				return
			}
		}
	}
	if c.commands.queue == nil {
		c.commands.queue = make(chan queuedCommand, maxCommands)
		c.startWorker(l.scope, c.commands.queue)
	}
	queued := queuedCommand{command: command}
	if command.TTL > 0 {
		queued.expires = time.Now().Add(time.Duration(command.TTL) * time.Second)
	}
	c.commands.open++
	select {
	case c.commands.queue <- queued:
		c.remember(command.ID)
	default:
		c.reply(wire.Result{ID: command.ID, Status: wire.ResultBusy})
	}
}

func (c *Client) remember(id int64) {
	for i := range c.commands.seen {
		if c.commands.seen[i].id == id {
			c.commands.seen[i] = seenCommand{id: id}
			return
		}
	}
	if len(c.commands.seen) == rememberedIDs {
		c.commands.seen = append(c.commands.seen[:0], c.commands.seen[1:]...)
	}
	c.commands.seen = append(c.commands.seen, seenCommand{id: id})
}

// reply queues an answer for the writer.
func (c *Client) reply(result wire.Result) {
	if len(c.commands.results) == maxResults {
		c.commands.results = append(c.commands.results[:0], c.commands.results[1:]...)
		c.lostResult()
	}
	c.commands.results = append(c.commands.results, result)
}

// lostResult counts an answer that found no room. Client.mu is held.
func (c *Client) lostResult() {
	c.commands.open--
	c.stats.ResultsLost++
}

// startWorker runs commands one after the other until Run ends.
func (c *Client) startWorker(scope runScope, queue chan queuedCommand) {
	ctx := scope.ctx
	scope.workers.Go(func() {
		defer func() {
			c.mu.Lock()
			c.commands.queue = nil // a later Run starts another worker
			c.commands.open -= len(queue)
			c.mu.Unlock()
		}()
		for {
			select {
			case queued := <-queue:
				c.execute(ctx, queued)
			case <-ctx.Done():
				return
			}
		}
	})
}

// execute runs one command and queues its answer.
func (c *Client) execute(ctx context.Context, queued queuedCommand) {
	result := wire.Result{Status: wire.ResultExpired}
	if queued.expires.IsZero() {
		result = c.cfg.OnCommand(ctx, queued.command)
	} else if time.Now().Before(queued.expires) {
		limited, cancel := context.WithDeadline(ctx, queued.expires)
		result = c.cfg.OnCommand(limited, queued.command)
		cancel()
	}
	result.ID = queued.command.ID
	c.mu.Lock()
	for i := range c.commands.seen {
		if seen := &c.commands.seen[i]; seen.id == result.ID {
			seen.answered, seen.result = true, result
		}
	}
	c.reply(result)
	c.mu.Unlock()
	c.kick()
}

// sendResults sends the answers that wait. One that can't be written stays for
// the next connection.
func (l *link) sendResults() error {
	c := l.client
	for {
		c.mu.Lock()
		if len(c.commands.results) == 0 {
			c.mu.Unlock()
			return nil
		}
		result := c.commands.results[0]
		c.commands.results = append(c.commands.results[:0], c.commands.results[1:]...)
		c.mu.Unlock()

		builder := builders.Get().(*frameBuilder)
		err := l.send(gws.OpcodeBinary, builder.encoder.Result(result))
		builders.Put(builder)
		c.mu.Lock()
		switch {
		case err == nil:
			c.commands.open--
		case len(c.commands.results) < maxResults:
			c.commands.results = append([]wire.Result{result}, c.commands.results...)
		default:
			c.lostResult()
		}
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
}
