//go:build linux || darwin

package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Discover tells how to reach the Postgres that serves a data directory, from
// any process that may read its state file. Its error matches ErrNotRunning if
// there is none.
func Discover(dataDir string) (Info, error) {
	absolute, err := filepath.Abs(dataDir)
	if err != nil {
		return Info{}, err
	}
	resolved, err := filepath.EvalSymlinks(absolute)
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, fmt.Errorf("%w: %s does not exist", ErrNotRunning, absolute)
	}
	if err != nil {
		return Info{}, err
	}
	p := pathsIn(resolved)
	known, found, err := readState(p.state)
	if errors.Is(err, fs.ErrPermission) {
		return Info{}, fmt.Errorf("read %s: ask as the user that runs the server, or as root: %w", p.state, err)
	}
	if err != nil {
		return Info{}, err
	}
	if !found {
		return Info{}, fmt.Errorf("%w: %s holds none", ErrNotRunning, resolved)
	}
	file, live, err := running(p.cluster)
	if err != nil {
		return Info{}, fmt.Errorf("look for Postgres in %s: %w", resolved, err)
	}
	if !live || file.port == 0 {
		return Info{}, fmt.Errorf("%w in %s", ErrNotRunning, resolved)
	}
	// Where it listens now, should the state file be older.
	known.Port = file.port
	version, err := os.ReadFile(filepath.Join(p.cluster, "PG_VERSION"))
	if err != nil {
		return Info{}, err
	}
	return Info{
		URL: known.ownerURL(), ReaderURL: known.readerURL(), PID: file.pid,
		Version: strings.TrimSpace(string(version)), DataDir: resolved, LogPath: p.log,
	}, nil
}
