//go:build linux || darwin

package embedded

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
)

// Waits between attempts to start Postgres again.
const (
	firstRestartWait = 100 * time.Millisecond
	lastRestartWait  = 10 * time.Second
	// A Postgres that ran this long had started well: the waits begin anew.
	steadyAfter = time.Minute
)

// request asks the supervisor to halt or resume Postgres.
type request struct {
	ctx    context.Context //nolint:containedctx // of the caller that waits for the answer
	signal syscall.Signal  // 0: resume
	answer chan error      // holds one
}

// supervise keeps Postgres running until ctx ends: a Postgres that dies is
// started again, on the same port. It is the only one that changes c.current
// while it runs.
func (c *Cluster) supervise(ctx context.Context) {
	defer close(c.done)
	rotation := time.NewTicker(time.Minute)
	defer rotation.Stop()
	restart := time.NewTimer(0)
	restart.Stop()
	wait := firstRestartWait
	halted := false
	exited := c.current.Load().exited
	for {
		select {
		case <-ctx.Done():
			return

		case <-exited:
			exited = nil
			p := c.current.Load()
			if time.Since(p.since) > steadyAfter {
				wait = firstRestartWait
			}
			c.logger.Error("postgres ended by itself; starting it again", "pid", p.process.Pid, "reason", exitReason(p),
				"in", wait, "log", c.paths.log, "last_words", logTail(c.paths.log, max(p.logOffset, 0)))
			restart.Reset(wait)
			wait = min(2*wait, lastRestartWait)

		case <-restart.C:
			p, err := c.launch() //nolint:contextcheck // Stop ends it in good order
			if err != nil {
				c.logger.Error("can't start postgres again", "error", err, "next_try_in", wait)
				restart.Reset(wait)
				wait = min(2*wait, lastRestartWait)
				continue
			}
			c.current.Store(p)
			exited = p.exited
			if err := c.awaitReady(ctx, p); err == nil {
				c.logger.Info("postgres is back", "pid", p.process.Pid, "took", time.Since(p.since).Round(time.Millisecond))
			}
			// If it ended again, exited tells.

		case <-rotation.C:
			if err := rotateLog(c.paths.log, logLimit); err != nil {
				c.logger.Warn("can't put the log of postgres aside", "error", err)
			}

		case ask := <-c.requests:
			limited, release := both(ctx, ask.ctx)
			var err error
			switch {
			case ask.signal != 0:
				restart.Stop()
				halted, exited = true, nil
				err = c.halt(limited, ask.signal)
			case halted:
				if err = c.startAgain(limited); err == nil {
					halted, exited, wait = false, c.current.Load().exited, firstRestartWait
				}
			}
			release()
			ask.answer <- err
		}
	}
}

func exitReason(p *postmaster) string {
	if p.err != nil {
		return p.err.Error()
	}
	return "ended"
}

func (c *Cluster) halt(ctx context.Context, signal syscall.Signal) error {
	p := c.current.Load()
	if err := p.signal(signal); err != nil {
		return fmt.Errorf("halt Postgres: %w", err)
	}
	select {
	case <-p.exited:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("halt Postgres: %w", ctx.Err())
	}
}

// Halt ends Postgres and keeps it down until Resume, while this cluster stays
// in possession of its data directory and port: for tests of what happens
// without a database. The signal says how: SIGINT in good order, SIGQUIT
// without a checkpoint, SIGKILL as in a crash.
func (c *Cluster) Halt(ctx context.Context, signal os.Signal) error {
	number, ok := signal.(syscall.Signal)
	if !ok || number == 0 {
		return fmt.Errorf("halt Postgres: %v is no signal of this system", signal)
	}
	return c.ask(ctx, number)
}

// Resume starts a halted Postgres on the port it had, and waits until it can
// be used.
func (c *Cluster) Resume(ctx context.Context) error { return c.ask(ctx, 0) }

func (c *Cluster) ask(ctx context.Context, signal syscall.Signal) error {
	ask := request{ctx: ctx, signal: signal, answer: make(chan error, 1)}
	select {
	case c.requests <- ask:
	case <-c.done:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	// The supervisor answers every request it takes.
	return <-ask.answer
}

// Stop ends supervision and Postgres and returns when both have gone; a
// throwaway cluster's directory has then been removed. When ctx ends, Postgres
// is stopped without a checkpoint, which loses nothing but makes its next start
// slower. Stop may be called again; later calls return what the first did.
func (c *Cluster) Stop(ctx context.Context) error {
	c.stopping.Lock()
	defer c.stopping.Unlock()
	if c.stopped {
		return c.stopErr
	}
	c.stopped = true
	began := time.Now()
	c.quit()
	<-c.done
	c.stopErr = c.dismantle(ctx)
	if c.stopErr != nil {
		c.stopErr = fmt.Errorf("stop the embedded database: %w", c.stopErr)
	}
	c.logger.Info("embedded postgres has stopped", "took", time.Since(began).Round(time.Millisecond))
	return c.stopErr
}

// both ends when the supervisor's context or the caller's ends. release must be
// called.
func both(supervisor, caller context.Context) (merged context.Context, release func()) {
	merged, cancel := context.WithCancel(caller)
	stop := context.AfterFunc(supervisor, cancel)
	return merged, func() { stop(); cancel() }
}
