//go:build linux || darwin

package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// pidFile is what Postgres writes into postmaster.pid, one field a line.
type pidFile struct {
	pid    int
	port   int
	status string // "starting", "ready", "stopping"; "" while not yet written
}

func pidFilePath(clusterDir string) string { return filepath.Join(clusterDir, "postmaster.pid") }

// readPIDFile reads postmaster.pid; found is false if there is none. While
// Postgres starts, lines are missing.
func readPIDFile(clusterDir string) (file pidFile, found bool, err error) {
	content, err := os.ReadFile(pidFilePath(clusterDir))
	if errors.Is(err, fs.ErrNotExist) {
		return pidFile{}, false, nil
	}
	if err != nil {
		return pidFile{}, false, err
	}
	lines := strings.Split(string(content), "\n")
	line := func(number int) string {
		if number > len(lines) {
			return ""
		}
		return strings.TrimSpace(lines[number-1])
	}
	// A backend that runs alone writes its process id negated.
	file.pid, _ = strconv.Atoi(strings.TrimPrefix(line(1), "-"))
	file.port, _ = strconv.Atoi(line(4))
	file.status = line(8)
	return file, true, nil
}

// disarmPIDFile makes a postmaster.pid harmless whose process id now belongs to
// some other process, as happens in containers, where few ids are in use.
// Postgres would take that process for a running server if it belongs to the
// same user. The file is not deleted, since it also names the shared memory by
// which Postgres finds backends that are still alive; it gets the id of this
// process instead: Postgres knows that its own parent can't be the culprit.
func disarmPIDFile(clusterDir string) error {
	path := pidFilePath(clusterDir)
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read stale %s: %w", path, err)
	}
	_, rest, _ := strings.Cut(string(content), "\n")
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	// Written in place, so that owner and mode stay.
	if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"+rest), info.Mode().Perm()); err != nil {
		return fmt.Errorf("rewrite stale %s: %w", path, err)
	}
	return nil
}

// running finds the Postgres that serves the cluster. A pid file that names
// another process is reported as reused.
func running(clusterDir string) (file pidFile, live, reused bool, err error) {
	file, found, err := readPIDFile(clusterDir)
	if err != nil || !found || !alive(file.pid) {
		return file, false, false, err
	}
	if !serves(file.pid, clusterDir) {
		return file, false, true, nil
	}
	return file, true, false, nil
}
