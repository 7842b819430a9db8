//go:build linux || darwin

package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
)

// postmaster is one run of Postgres' main process.
type postmaster struct {
	process   *os.Process
	exited    chan struct{} // closed when the process has gone
	err       error         // how it ended; readable once exited is closed; nil if it was taken over
	logOffset int64         // where its words begin in the log
	since     time.Time

	unwatch context.CancelFunc // ends the watching of a process that is not our child
	watched chan struct{}      // closed when the watching has ended
}

// launch starts Postgres. The goroutine that starts it also waits for it; it
// ends with the process.
func (c *Cluster) launch() (*postmaster, error) {
	disarmed, err := disarmPIDFile(c.paths.cluster)
	if err != nil {
		return nil, err
	}
	if disarmed {
		c.logger.Info("postmaster.pid named a process that is not this cluster's")
	}
	log, offset, err := openLog(c.paths.log)
	if err != nil {
		return nil, err
	}
	cmd := c.account.command(context.Background(), c.paths.cluster, c.installation.program("postgres"), "-D", c.paths.cluster)
	cmd.Stdout, cmd.Stderr = log, log
	p := &postmaster{exited: make(chan struct{}), logOffset: offset, since: time.Now(), unwatch: func() {}}
	p.watched = p.exited
	started := make(chan error, 1)
	go func() {
		if c.config.Throwaway {
			// Linux ties the child to the thread that forked it, so the thread
			// must live as long. It ends with this goroutine.
			runtime.LockOSThread()
			endWithParent(cmd.SysProcAttr)
		}
		err := cmd.Start()
		_ = log.Close() // the child has its own
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, c.account.explain(err)
	}
	p.process = cmd.Process
	return p, nil
}

// adopt watches over a Postgres that a former server started. It is not our
// child, so the system does not tell when it ends: a goroutine looks.
func adopt(pid int) (*postmaster, error) {
	process, err := os.FindProcess(pid)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &postmaster{process: process, exited: make(chan struct{}), since: time.Now(), unwatch: cancel, watched: make(chan struct{})}
	go func() {
		defer close(p.watched)
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for alive(pid) {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
		close(p.exited)
	}()
	return p, nil
}

// signal sends a signal; a process that has gone is no error.
func (p *postmaster) signal(signal syscall.Signal) error {
	select {
	case <-p.exited:
		return nil
	default:
	}
	err := p.process.Signal(signal)
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

func (p *postmaster) gone() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// shutDown ends Postgres and waits until it has gone: in good order first,
// after patience without a checkpoint, and then by force. When ctx ends it
// hurries.
func (p *postmaster) shutDown(ctx context.Context, patience time.Duration) error {
	defer p.unwatch()
	// Postgres itself kills its last children 5 s after SIGQUIT.
	steps := []struct {
		signal   syscall.Signal
		patience time.Duration
		ctx      context.Context //nolint:containedctx // only the first step can be hurried
	}{
		{syscall.SIGINT, patience, ctx},
		{syscall.SIGQUIT, 10 * time.Second, context.WithoutCancel(ctx)},
		{syscall.SIGKILL, 10 * time.Second, context.WithoutCancel(ctx)},
	}
	for _, step := range steps {
		if err := p.signal(step.signal); err != nil {
			return fmt.Errorf("stop Postgres (process %d): %w", p.process.Pid, err)
		}
		limited, cancel := context.WithTimeout(step.ctx, step.patience)
		select {
		case <-p.exited:
			cancel()
			return nil
		case <-limited.Done():
			cancel()
		}
	}
	return fmt.Errorf("stop Postgres (process %d): it does not go", p.process.Pid)
}

// awaitReady waits until Postgres takes connections.
func (c *Cluster) awaitReady(ctx context.Context, p *postmaster) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	report := time.NewTicker(10 * time.Second)
	defer report.Stop()
	for {
		select {
		case <-p.exited:
			err := p.err
			if err == nil {
				err = errors.New("ended")
			}
			return &StartError{Step: "postgres", Err: err, LogPath: c.paths.log, Tail: logTail(c.paths.log, p.logOffset)}
		case <-ctx.Done():
			return &StartError{Step: "postgres", Err: fmt.Errorf("does not get ready: %w", context.Cause(ctx)), LogPath: c.paths.log, Tail: logTail(c.paths.log, p.logOffset)}
		case <-report.C:
			c.logger.Info("postgres is still starting; it may be recovering from a crash", "pid", p.process.Pid, "for", time.Since(p.since).Round(time.Second))
		case <-ticker.C:
			file, found, err := readPIDFile(c.paths.cluster)
			if err == nil && found && file.pid == p.process.Pid && file.status == "ready" {
				return nil
			}
		}
	}
}
