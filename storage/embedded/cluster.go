//go:build linux || darwin

package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Cluster is a running private Postgres. See the package comment for its
// lifecycle.
type Cluster struct {
	config       Config
	logger       *slog.Logger
	paths        paths
	account      account
	installation Installation
	state        state // constant once Start has returned

	lock  *os.File
	guard *guard // of a throwaway cluster

	current  atomic.Pointer[postmaster] // the last one started; set by Start, then by the supervisor alone
	requests chan request               // to the supervisor
	quit     context.CancelFunc         // ends the supervisor
	done     chan struct{}              // closed when the supervisor has ended

	stopping sync.Mutex
	stopped  bool
	stopErr  error
}

type paths struct{ data, cluster, state, log, lock string }

func pathsIn(dataDir string) paths {
	return paths{
		data:    dataDir,
		cluster: filepath.Join(dataDir, "cluster"),
		state:   filepath.Join(dataDir, "postgres.json"),
		log:     filepath.Join(dataDir, "postgres.log"),
		lock:    filepath.Join(dataDir, "lock"),
	}
}

// Start makes the cluster if there is none, starts Postgres or takes over the
// one that a killed server left running, and returns when it can be used. ctx
// bounds the start alone; Stop ends the cluster.
//
// Errors that can be matched: *InUseError, *VersionError, *NotInstalledError,
// *AccessError, *StartError, ErrUnsupported.
func Start(ctx context.Context, config Config) (cluster *Cluster, err error) {
	config, err = config.withDefaults()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, config.StartTimeout,
		fmt.Errorf("not within %v: %w", config.StartTimeout, context.DeadlineExceeded))
	defer cancel()

	c := &Cluster{config: config, logger: config.Logger, requests: make(chan request), done: make(chan struct{})}
	// Until the supervisor takes over, a failure undoes what was begun.
	defer func() {
		if err != nil {
			err = errors.Join(err, c.dismantle(context.WithoutCancel(ctx)))
		}
	}()
	began := time.Now()
	if err := c.occupy(ctx); err != nil {
		return nil, err
	}
	if err := c.prepare(ctx); err != nil {
		return nil, err
	}
	if err := c.bringUp(ctx); err != nil {
		return nil, err
	}
	supervision, quit := context.WithCancel(context.Background())
	c.quit = quit
	go c.supervise(supervision)
	c.logger.Info("embedded postgres is ready", "version", c.installation.Version, "port", c.state.Port,
		"pid", c.current.Load().process.Pid, "data_dir", c.paths.data, "user", c.account.name, "took", time.Since(began).Round(time.Millisecond))
	return c, nil
}

// occupy makes the data directory, locks it, and finds out who runs Postgres.
func (c *Cluster) occupy(ctx context.Context) error {
	directory, err := c.makeDataDir()
	if err != nil {
		return err
	}
	c.paths = pathsIn(directory)
	if c.lock, err = lockDataDir(c.paths.lock); err != nil {
		return err
	}
	if c.account, err = chooseAccount(c.paths, c.config.User); err != nil {
		return err
	}
	if c.account.drop {
		// The account must pass through the data directory, but need not list it.
		if err := os.Chmod(directory, 0o711); err != nil { //nolint:gosec // the files in it are 0600, the cluster 0700
			return fmt.Errorf("let user %s pass through the data directory: %w", c.account.name, err)
		}
	}
	err = c.account.checkReach(directory, "")
	if blocked, ok := errors.AsType[*AccessError](err); ok {
		blocked.Advice = dataDirAdvice(blocked.Directory)
	}
	if err != nil {
		return err
	}
	if err := removeUnfinished(directory); err != nil {
		return fmt.Errorf("remove an unfinished cluster: %w", err)
	}
	return ctx.Err()
}

// makeDataDir returns the data directory's path without symbolic links.
func (c *Cluster) makeDataDir() (string, error) {
	directory := c.config.DataDir
	if directory == "" { // throwaway
		base := os.TempDir()
		if os.Geteuid() == 0 {
			base = "/tmp" // root's own may be closed to the user who runs Postgres
		}
		directory = filepath.Join(base, "mooring-"+rand.Text())
	}
	if c.config.Throwaway {
		// What is in it will be removed, so there must be nothing.
		if entries, err := os.ReadDir(directory); err == nil && len(entries) > 0 {
			return "", fmt.Errorf("data directory %s is not empty, and a throwaway database would remove it", directory)
		}
		// The watchdog comes before the directory, so that at no time there is
		// one without the other.
		parent, err := filepath.EvalSymlinks(filepath.Dir(directory))
		if err != nil {
			return "", fmt.Errorf("data directory: %w", err)
		}
		directory = filepath.Join(parent, filepath.Base(directory))
		if c.guard, err = startGuard(directory); err != nil {
			return "", err
		}
		c.paths = pathsIn(directory) // what the watchdog guards
	}
	if err := os.MkdirAll(directory, 0o755); err != nil { //nolint:gosec // what is secret in it has modes of its own
		return "", fmt.Errorf("make the data directory: %w", err)
	}
	resolved, err := filepath.EvalSymlinks(directory)
	if err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	return resolved, nil
}

// prepare finds the programs and the passwords and makes the cluster if there
// is none.
func (c *Cluster) prepare(ctx context.Context) error {
	major, exists, err := clusterMajor(c.paths.cluster)
	if err != nil {
		return err
	}
	if c.installation, err = c.findInstallation(ctx, major, exists); err != nil {
		return err
	}
	known, found, err := readState(c.paths.state)
	if err != nil {
		return err
	}
	if found {
		c.state = known
	} else {
		c.state = newState()
	}
	if exists {
		if !found {
			c.logger.Warn("the file with the database's passwords is missing; setting new ones", "file", c.paths.state)
			return c.replaceSuperuser(ctx)
		}
		return nil
	}
	c.logger.Info("making a database cluster", "data_dir", c.paths.data, "version", c.installation.Version, "bin_dir", c.installation.BinDir)
	// Passwords first: a cluster must never be there without them.
	if err := c.state.write(c.paths.state); err != nil {
		return err
	}
	return createCluster(ctx, c.config, c.account, c.installation, c.paths.cluster, c.state.SuperuserPassword)
}

// findInstallation finds the PostgreSQL for a new cluster, or for an existing
// one of the given major version.
func (c *Cluster) findInstallation(ctx context.Context, major string, exists bool) (Installation, error) {
	look := search{account: c.account, binDir: c.config.BinDir}
	if exists {
		number, err := strconv.Atoi(major)
		if err != nil || number < oldestMajor || number > newestMajor {
			look.major = -1 // no installation will do; the search tells what there is
			look.find(ctx)
			return Installation{}, &VersionError{DataDir: c.paths.data, Cluster: major, Found: look.others}
		}
		look.major = number
	}
	if installation, found := look.find(ctx); found {
		return installation, nil
	}
	var downloadErr error
	if c.config.BinDir == "" && c.config.Download != DownloadNever {
		var installation Installation
		if installation, downloadErr = c.download(ctx, look.major); downloadErr == nil {
			return installation, nil
		}
	}
	if len(look.others) > 0 {
		return Installation{}, &VersionError{DataDir: c.paths.data, Cluster: major, Found: look.others, Command: installCommand(look.major)}
	}
	return Installation{}, &NotInstalledError{Skipped: look.skipped, Download: downloadErr, Command: installCommand(look.major)}
}

// replaceSuperuser sets a new password for the superuser of a cluster whose
// state file was lost, for which a running Postgres has to be stopped.
func (c *Cluster) replaceSuperuser(ctx context.Context) error {
	file, live, err := running(c.paths.cluster)
	if err != nil {
		return err
	}
	if live {
		p, err := adopt(file.pid)
		if err != nil {
			return err
		}
		if err := c.endRun(ctx, p); err != nil {
			return err
		}
	}
	if _, err := disarmPIDFile(c.paths.cluster); err != nil {
		return err
	}
	if err := c.state.write(c.paths.state); err != nil {
		return err
	}
	return c.resetSuperuser(ctx)
}

// endRun stops a Postgres that is not supervised and waits for what watches it.
func (c *Cluster) endRun(ctx context.Context, p *postmaster) error {
	err := p.shutDown(ctx, c.config.StopTimeout)
	if err == nil {
		<-p.watched
	}
	return err
}

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
	if errors.Is(err, errPassword) {
		c.logger.Warn("the database does not know the password in the state file; setting it again", "file", c.paths.state)
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

// takeOver adopts the Postgres that a killed server left behind. It is stopped
// instead, to be started anew, if it was started with other settings.
func (c *Cluster) takeOver(ctx context.Context) (bool, error) {
	file, live, err := running(c.paths.cluster)
	if err != nil || !live {
		return false, err
	}
	p, err := adopt(file.pid)
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
	p, err := c.launch()
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

// dismantle stops Postgres and gives back lock and, for a throwaway cluster,
// directory. It is for when no supervisor runs.
func (c *Cluster) dismantle(ctx context.Context) error {
	var err error
	if p := c.current.Load(); p != nil {
		err = c.endRun(ctx, p)
	}
	if c.lock != nil {
		err = errors.Join(err, unlock(c.lock))
		c.lock = nil
	}
	if c.guard != nil {
		err = errors.Join(err, c.guard.release(c.paths.data))
		c.guard = nil
	}
	return err
}

// URL is the connection URL of the owning role, which may change everything in
// the database. It holds a password. It stays the same while the cluster lives.
func (c *Cluster) URL() string { return c.state.ownerURL() }

// ReaderURL is the connection URL of the role that may only read. It holds a
// password.
func (c *Cluster) ReaderURL() string { return c.state.readerURL() }

// SuperuserURL is the connection URL of the superuser, for maintenance and
// tests. It holds a password.
func (c *Cluster) SuperuserURL() string { return c.state.superuserURL() }

// Info tells where the cluster is and what runs it.
func (c *Cluster) Info() Info {
	return Info{
		URL: c.URL(), ReaderURL: c.ReaderURL(), Version: c.installation.Version,
		PID: c.current.Load().process.Pid, BinDir: c.installation.BinDir, DataDir: c.paths.data, LogPath: c.paths.log,
	}
}
