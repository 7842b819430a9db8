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
	"syscall"
)

// pidFile is what Postgres writes into postmaster.pid, one field a line.
type pidFile struct {
	pid    int
	port   int
	status string // "starting", "ready", "stopping"; "" while not yet written
}

const pidFileName = "postmaster.pid"

func pidFilePath(clusterDir string) string { return filepath.Join(clusterDir, pidFileName) }

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

// running finds the Postgres that serves the cluster.
func running(clusterDir string) (file pidFile, live bool, err error) {
	file, found, err := readPIDFile(clusterDir)
	if err != nil || !found {
		return file, false, err
	}
	return file, alive(file.pid) && serves(file.pid, clusterDir), nil
}

// disarmPIDFile makes a postmaster.pid harmless that names a process which is
// not this cluster's Postgres: one that got the id later, as happens in
// containers, where few ids are in use, or what is left of a killed Postgres
// until somebody waits for it. Postgres would take it for a running server if
// it belongs to the same user. The file is not deleted, since it also names the
// shared memory by which Postgres finds backends that are still alive; it gets
// the id of this process instead: Postgres knows that its own parent can't be
// the culprit.
func disarmPIDFile(clusterDir string) (disarmed bool, err error) {
	file, live, err := running(clusterDir)
	if err != nil || live || file.pid <= 0 || errors.Is(syscall.Kill(file.pid, 0), syscall.ESRCH) {
		return false, err
	}
	// The directory belongs to the user that runs Postgres; see files.go.
	inside, err := os.OpenRoot(clusterDir)
	if err != nil {
		return false, fmt.Errorf("change stale postmaster.pid: %w", err)
	}
	defer inside.Close()
	content, err := inside.ReadFile(pidFileName)
	if err != nil {
		return false, fmt.Errorf("change stale postmaster.pid: %w", err)
	}
	_, rest, _ := strings.Cut(string(content), "\n")
	// Written in place, so that owner and mode stay.
	if err := inside.WriteFile(pidFileName, []byte(strconv.Itoa(os.Getpid())+"\n"+rest), 0o600); err != nil {
		return false, fmt.Errorf("change stale postmaster.pid: %w", err)
	}
	return true, nil
}
