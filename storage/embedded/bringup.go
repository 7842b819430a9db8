//go:build linux || darwin

package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// bringUp takes over a running Postgres, if it runs as it should, or starts one
// anew, and then sets up what is missing in it.
func (c *Cluster) bringUp(ctx context.Context) error {
	taken, err := c.takeOver(ctx)
	if err != nil {
		return err
	}
	if !taken {
		if err := c.startAnew(ctx); err != nil {
			return err
		}
	}
	err = c.provision(ctx, c.state)
	if taken && err != nil && endsSoon(ctx, c.current.Load(), err) {
		if err := c.startAnew(ctx); err != nil {
			return err
		}
		err = c.provision(ctx, c.state)
	}
	if errors.Is(err, errPassword) {
		c.logger.Warn("the database does not know the passwords in the state file, which is new or another cluster's; setting them", "file", c.paths.state)
		if err := c.endRun(ctx, c.current.Load()); err != nil {
			return err
		}
		if err := c.resetSuperuser(ctx); err != nil {
			return err
		}
		if err := c.startAnew(ctx); err != nil {
			return err
		}
		err = c.provision(ctx, c.state)
	}
	if err != nil {
		return &StartError{Step: "set up the database", Err: err, LogPath: c.paths.log}
	}
	return nil
}

// endsSoon tells whether a Postgres that was taken over was about to end, by a signal
// of a moment before, say, and so broke the connection: then it waits for its end.
func endsSoon(ctx context.Context, p *postmaster, err error) bool {
	if errors.Is(err, errPassword) {
		return false // that is what it has to say
	}
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	select {
	case <-p.watched:
		return true
	case <-limited.Done():
		return false
	}
}

// takeOver adopts the Postgres that a killed server left behind. It is stopped
// instead, to be started anew, if it was started with other settings.
func (c *Cluster) takeOver(ctx context.Context) (bool, error) {
	file, live, err := running(c.paths.cluster)
	if err != nil || !live {
		return false, err
	}
	p, err := adopt(file.pid) //nolint:contextcheck // watched for longer than the start takes
	if err != nil {
		return false, err
	}
	c.current.Store(p)
	// It may be starting still, or stopping: then it will have gone.
	if err := c.awaitReady(ctx, p); err != nil {
		if !p.gone() {
			return false, err
		}
		<-p.watched
		return false, nil
	}
	wanted := c.wantedSettings(ctx, file.port)
	actual, err := os.ReadFile(filepath.Join(c.paths.cluster, settingsFile))
	if err == nil && string(actual) == wanted && (c.config.Port == 0 || c.config.Port == file.port) {
		c.logger.Info("taking over the postgres that a former server left running", "pid", file.pid, "port", file.port)
		c.state.Port = file.port
		return true, c.state.write(c.paths.state)
	}
	c.logger.Info("restarting the postgres that a former server left running, because settings changed", "pid", file.pid)
	return false, c.endRun(ctx, p)
}

func (c *Cluster) wantedSettings(ctx context.Context, port int) string {
	compression := "on"
	if !c.config.Unsafe {
		compression = walCompression(ctx, c.account, c.installation, c.paths.cluster)
	}
	return settingsText(settings(c.config, port, memoryBytes(), compression))
}

// startAnew writes the settings and starts Postgres, on another port if the
// wanted one is taken.
func (c *Cluster) startAnew(ctx context.Context) error {
	wanted := c.state.Port
	if c.config.Port != 0 {
		wanted = c.config.Port
	}
	return c.retry(ctx, func() error {
		port, err := choosePort(ctx, wanted)
		if err != nil {
			return err
		}
		if c.config.Port != 0 && port != c.config.Port {
			return fmt.Errorf("port %d on 127.0.0.1 is taken by another process", c.config.Port)
		}
		c.state.Port = port
		if err := replaceFile(filepath.Join(c.paths.cluster, settingsFile), []byte(c.wantedSettings(ctx, port))); err != nil {
			return err
		}
		if err := c.state.write(c.paths.state); err != nil {
			return err
		}
		return c.startOnce(ctx)
	})
}

// startAgain starts Postgres as it ran before.
func (c *Cluster) startAgain(ctx context.Context) error {
	return c.retry(ctx, func() error { return c.startOnce(ctx) })
}

func (c *Cluster) startOnce(ctx context.Context) error {
	if err := rotateLog(c.paths.log, logLimit); err != nil {
		c.logger.Warn("can't put the log of postgres aside", "error", err)
	}
	p, err := c.launch() //nolint:contextcheck // Postgres lives longer than the start takes
	if err != nil {
		return &StartError{Step: "postgres", Err: err, LogPath: c.paths.log}
	}
	c.current.Store(p)
	return c.awaitReady(ctx, p)
}

// retry repeats a start that failed for a reason that passes by itself: a port
// that another process took first, or backends of a killed Postgres that have
// not ended yet.
func (c *Cluster) retry(ctx context.Context, start func() error) error {
	const most = 20 // some ten seconds
	for attempt := 1; ; attempt++ {
		err := start()
		failure, ok := errors.AsType[*StartError](err)
		if !ok || !passes(failure.Tail) || attempt == most {
			return err
		}
		c.logger.Info("postgres could not start yet; trying again", "reason", lastLines(failure.Tail, 3))
		if pause(ctx, time.Duration(attempt)*50*time.Millisecond) != nil {
			return err
		}
	}
}

// passes tells whether the reason for a failed start will go away by itself.
func passes(tail string) bool {
	return strings.Contains(tail, "Address already in use") ||
		strings.Contains(tail, "pre-existing shared memory block")
}

func pause(ctx context.Context, duration time.Duration) error {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// endRun stops a Postgres that is not supervised and waits for what watches it.
func (c *Cluster) endRun(ctx context.Context, p *postmaster) error {
	err := p.shutDown(ctx, c.config.StopTimeout)
	if err == nil {
		<-p.watched
	}
	return err
}
