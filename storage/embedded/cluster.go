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
// *AccessError, *ForeignError, *StartError, ErrUnsupported.
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
	go c.supervise(supervision) //nolint:contextcheck // lives until Stop
	c.logger.Info("embedded postgres is ready", "version", c.installation.Version, "port", c.state.Port,
		"pid", c.current.Load().process.Pid, "data_dir", c.paths.data, "user", c.account.name, "took", time.Since(began).Round(time.Millisecond))
	return c, nil
}

// occupy makes the data directory, locks it, and finds out who runs Postgres.
func (c *Cluster) occupy(ctx context.Context) error {
	directory, err := c.makeDataDir() //nolint:contextcheck // the watchdog outlives the start
	if err != nil {
		return err
	}
	c.paths = pathsIn(directory)
	if err := checkContents(directory); err != nil {
		return err
	}
	if c.lock, err = lockDataDir(c.paths.lock); err != nil {
		return err
	}
	if c.account, err = chooseAccount(c.paths, c.config.User); err != nil {
		return err
	}
	if err := c.openDataDir(directory); err != nil {
		return err
	}
	if err := removeUnfinished(directory); err != nil {
		return fmt.Errorf("remove an unfinished cluster: %w", err)
	}
	return ctx.Err()
}

// openDataDir sees to it that the account can pass through the data directory.
func (c *Cluster) openDataDir(directory string) error {
	err := c.account.checkReach(directory, "")
	blocked, ok := errors.AsType[*AccessError](err)
	if !ok {
		return err
	}
	if blocked.Directory != directory {
		blocked.Advice = dataDirAdvice(blocked.Directory)
		return blocked
	}
	// Ours to open if all that is in it is ours too; passing through is enough,
	// listing is not needed.
	foreign, err := foreignEntries(directory)
	if err != nil {
		return err
	}
	if len(foreign) > 0 {
		return &ForeignError{DataDir: directory, Entries: foreign, Closed: c.account.name}
	}
	if err := os.Chmod(directory, 0o711); err != nil { //nolint:gosec // the files in it are 0600, the cluster 0700
		return fmt.Errorf("let user %s pass through the data directory: %w", c.account.name, err)
	}
	return nil
}

// makeDataDir returns the data directory's path without symbolic links.
func (c *Cluster) makeDataDir() (string, error) {
	directory := c.config.DataDir
	generated := directory == "" // throwaway
	if generated {
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
	if generated {
		// The watchdog's command line tells the name: another user may have been
		// faster. Then the directory is not ours, neither to use nor to remove.
		if err := os.Mkdir(directory, 0o755); err != nil { //nolint:gosec // as below
			c.guard.abandon()
			c.guard = nil
			return "", fmt.Errorf("make the data directory: %w", err)
		}
	} else if err := os.MkdirAll(directory, 0o755); err != nil { //nolint:gosec // what is secret in it has modes of its own
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
		return nil // should the passwords be new, bringUp sets them
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
