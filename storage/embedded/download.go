//go:build linux || darwin

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// What is downloaded, by major version.
var downloads = map[int]embeddedpostgres.PostgresVersion{
	15: embeddedpostgres.V15,
	16: embeddedpostgres.V16,
	17: embeddedpostgres.V17,
	18: embeddedpostgres.V18,
}

// download fetches PostgreSQL of the given major version (0: the newest), or
// finds what was fetched before, see docs/decisions/041.
func (c *Cluster) download(ctx context.Context, major int) (Installation, error) {
	if major == 0 {
		major = newestMajor
	}
	version := downloads[major]
	cache, err := downloadCache()
	if err != nil {
		return Installation{}, err
	}
	target := filepath.Join(cache, fmt.Sprintf("postgresql-%s-%s-%s", version, runtime.GOOS, runtime.GOARCH))
	if _, err := os.Stat(target); errors.Is(err, fs.ErrNotExist) {
		if err := c.fetch(ctx, version, cache, target); err != nil {
			return Installation{}, err
		}
	}
	look := search{account: c.account}
	installation, err := look.inspect(ctx, filepath.Join(target, "bin"))
	if err != nil {
		return Installation{}, fmt.Errorf("what was downloaded to %s does not work: %w", target, err)
	}
	return installation, nil
}

// downloadCache is where downloads are kept. Root's own cache folder is closed
// to the user that runs Postgres.
func downloadCache() (string, error) {
	cache := "/var/cache/mooring"
	if os.Geteuid() != 0 {
		own, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a folder for downloads: %w", err)
		}
		cache = filepath.Join(own, "mooring")
	}
	if err := os.MkdirAll(cache, 0o755); err != nil { //nolint:gosec // programs for everybody
		return "", fmt.Errorf("make a folder for downloads: %w", err)
	}
	return cache, nil
}

// fetch downloads and unpacks into target, which appears complete or not at
// all.
func (c *Cluster) fetch(ctx context.Context, version embeddedpostgres.PostgresVersion, cache, target string) error {
	if err := reachable(ctx, c.config.Download); err != nil {
		return err
	}
	c.logger.Info("no PostgreSQL is installed; downloading one", "version", string(version), "from", c.config.Download, "to", target)
	work, err := os.MkdirTemp(cache, "download-")
	if err != nil {
		return err
	}
	port, err := choosePort(ctx, 0)
	if err != nil {
		return errors.Join(err, os.RemoveAll(work))
	}
	unpacked := filepath.Join(work, "unpacked")
	// The library offers fetching only as the first half of starting a server,
	// and its second half removes data directories and runs as whoever calls.
	// So the server is given a data directory that can't be removed, since
	// nothing may remove a path that ends in a dot: that is where it gives up.
	const givesUp = "unable to clean up data directory"
	library := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(version).
		BinaryRepositoryURL(strings.TrimRight(c.config.Download, "/")).
		CachePath(filepath.Join(work, "archive")).
		RuntimePath(filepath.Join(work, "runtime")).
		BinariesPath(unpacked).
		DataPath(filepath.Join(work, "runtime") + "/.").
		Port(uint32(port)))

	// The library's download can't be cancelled. Its goroutine owns the work
	// folder and ends with the download, at the latest with the process, which
	// has nothing to do without a database.
	fetched := make(chan error, 1)
	go func() {
		err := library.Start()
		switch {
		case err == nil:
			err = errors.Join(errors.New("the library started a server unasked"), library.Stop())
		case strings.Contains(err.Error(), givesUp):
			err = publish(unpacked, target)
		}
		fetched <- errors.Join(err, os.RemoveAll(work))
	}()
	select {
	case err := <-fetched:
		if err != nil {
			return fmt.Errorf("PostgreSQL %s from %s: %w", version, c.config.Download, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("PostgreSQL %s from %s: %w", version, c.config.Download, ctx.Err())
	}
}

// reachable finds out quickly that there is no way to the repository.
func reachable(ctx context.Context, repository string) error {
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(limited, http.MethodHead, repository, http.NoBody)
	if err != nil {
		return fmt.Errorf("repository: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("reach the repository: %w", err)
	}
	http.DefaultClient.CloseIdleConnections()
	return response.Body.Close()
}

// publish lets every user run what was unpacked and puts it in its place.
func publish(unpacked, target string) error {
	err := filepath.WalkDir(unpacked, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if info.IsDir() || mode&0o100 != 0 {
			mode |= 0o111
		}
		return os.Chmod(path, mode) //nolint:gosec // nobody else can write there
	})
	if err != nil {
		return err
	}
	if err := os.Rename(unpacked, target); err != nil {
		// Another process may have been first; what it published is as good.
		if _, missing := os.Stat(target); missing != nil {
			return err
		}
	}
	return nil
}
