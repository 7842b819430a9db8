package main

import (
	"os"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/storage/embedded"
)

// temporary is a folder for temporary files that must be empty in the end.
func temporary(t *testing.T) string {
	t.Helper()
	directory := dataDirectory(t)
	require.NoError(t, os.Mkdir(directory, 0o755))
	return directory
}

func startDemo(t *testing.T, args ...string) (p *process, folder string) {
	t.Helper()
	folder = temporary(t)
	args = append([]string{"demo", "--devices", "4", "--rate", "100"}, args...)
	return startWith(t, []string{"TMPDIR=" + folder}, args...), folder
}

// requireNothingLeft looks for files and, if the demo came to have one, for the
// data directory, which root's does not have in its own folder.
func requireNothingLeft(t *testing.T, demo *process, folder string) {
	t.Helper()
	left, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Empty(t, left)
	if data := demo.dataDirectory(); data != "" {
		require.NoDirExists(t, data)
	}
}

// dataDirectory is where the demo says that its PostgreSQL lives.
func (p *process) dataDirectory() string {
	if found := regexp.MustCompile(`--data-dir (\S+)\)`).FindStringSubmatch(p.output.String()); found != nil {
		return found[1]
	}
	return ""
}

func TestDemoEndsByItself(t *testing.T) {
	t.Parallel()
	demo, folder := startDemo(t, "--for", "8s") // with some lines of status, in one of which all are there
	require.Equal(t, exitDone, demo.wait(), demo.output)
	output := demo.output.String()
	for _, part := range []string{"devices 5 of 5 online", "SELECT", "cpu_used", "device_status", "must be", "clean: nothing acknowledged is missing"} {
		require.Contains(t, output, part)
	}
	require.NotContains(t, output, "\x1b", "no control sequences where there is no terminal")
	requireNothingLeft(t, demo, folder)
}

// Ctrl-C ends it with the same verdict.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	demo, folder := startDemo(t)
	demo.says("devices 5 of 5 online")
	require.NoError(t, demo.cmd.Process.Signal(os.Interrupt))
	require.Equal(t, exitDone, demo.wait(), demo.output)
	require.Contains(t, demo.output.String(), "clean: nothing acknowledged is missing")
	requireNothingLeft(t, demo, folder)
}

// Ctrl-C before the devices even run, and a second one, leave nothing either.
func TestDemoInterruptedEarlyAndTwice(t *testing.T) {
	t.Parallel()
	early, folder := startDemo(t)
	early.says("Starting a server")
	require.NoError(t, early.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, exitInterrupted, early.wait(), early.output)
	require.Contains(t, early.output.String(), "interrupted while the demo was starting")
	requireNothingLeft(t, early, folder)

	twice, folder := startDemo(t)
	twice.says("devices 5 of 5 online")
	require.NoError(t, twice.cmd.Process.Signal(os.Interrupt))
	require.NoError(t, twice.cmd.Process.Signal(os.Interrupt))
	twice.wait()
	requireNothingLeft(t, twice, folder)
}

// Even a killed demo takes its PostgreSQL and its data with it.
func TestDemoKilled(t *testing.T) {
	t.Parallel()
	demo, _ := startDemo(t)
	demo.says("devices 5 of 5 online")
	data := demo.dataDirectory()
	info, err := embedded.Discover(data)
	require.NoError(t, err)
	require.NoError(t, demo.cmd.Process.Kill())
	require.Eventually(t, func() bool {
		_, err := os.Stat(data)
		return !alive(info.PID) && os.IsNotExist(err)
	}, patience, 50*time.Millisecond)
}
