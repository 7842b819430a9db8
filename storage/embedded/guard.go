//go:build linux || darwin

package embedded

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// guardScript waits until its standard input ends, which happens when this
// process closes it or dies in whatever way, then stops the Postgres of the
// data directory $1, if one is left, and removes the directory.
const guardScript = `
trap '' INT TERM HUP
while read -r line; do :; done
tries=0
while [ -d "$1" ] && [ $tries -lt 50 ]; do
  tries=$((tries + 1))
  pid=
  [ -r "$1/cluster/postmaster.pid" ] && read -r pid < "$1/cluster/postmaster.pid"
  pid=${pid#-}
  if [ -n "$pid" ] && [ "$pid" -gt 1 ]; then
    kill -QUIT "$pid"
    waited=0
    while kill -0 "$pid" && [ $waited -lt 100 ]; do waited=$((waited + 1)); sleep 0.1; done
  fi
  rm -rf -- "$1"
  [ -d "$1" ] && sleep 0.1
done
`

// guard is the watchdog process of a throwaway cluster.
type guard struct {
	cmd   *exec.Cmd
	input io.Closer
}

// startGuard starts the watchdog. It runs as this process' user, in a session
// of its own so that neither Ctrl-C nor the end of a terminal reaches it.
func startGuard(dataDir string) (*guard, error) {
	cmd := exec.CommandContext(context.Background(), "/bin/sh", "-c", guardScript, "mooring-watchdog", dataDir) //nolint:gosec // the script is constant
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the watchdog of a throwaway database: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the watchdog of a throwaway database: %w", err)
	}
	return &guard{cmd: cmd, input: input}, nil
}

// release removes the data directory and lets the watchdog go.
func (g *guard) release(dataDir string) error {
	removed := os.RemoveAll(dataDir)
	_ = g.input.Close()
	_ = g.cmd.Wait() // it removes what we could not
	if _, err := os.Stat(dataDir); err == nil {
		return removed
	}
	return nil
}

// abandon ends the watchdog and leaves the data directory alone.
func (g *guard) abandon() {
	_ = g.cmd.Process.Kill()
	_ = g.input.Close()
	_ = g.cmd.Wait()
}
