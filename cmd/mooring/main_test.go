package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

func TestMain(m *testing.M) {
	code := pgtest.Run(m)
	if builtIn != "" {
		_ = os.RemoveAll(builtIn)
	}
	os.Exit(code)
}

// builtIn is the folder of the built program; "": no test needed it.
var builtIn string

// binary builds the program once for all tests that need a process of its own,
// unless .ci/run has built it for the tests of all packages.
var binary = sync.OnceValues(func() (path string, err error) {
	if folder := os.Getenv("MOORING_TEST_PROGRAMS"); folder != "" {
		return filepath.Join(folder, "plain", "mooring"), nil
	}
	if builtIn, err = os.MkdirTemp("", "mooring-binary-"); err != nil {
		return "", err
	}
	path = filepath.Join(builtIn, "mooring")
	output, err := exec.Command("go", "build", "-buildvcs=false", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, output)
	}
	return path, nil
})

// result is what a finished command left.
type result struct {
	code           int
	stdout, stderr string
}

// mooring runs a command line within this process.
func mooring(t *testing.T, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// process is a running program.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	output *safeBuffer // stdout and stderr
	ended  chan error
}

// start runs the built binary until the test ends.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startWith(t, nil, args...)
}

// startWith is start with more environment.
func startWith(t *testing.T, environment []string, args ...string) *process {
	t.Helper()
	path, err := binary()
	require.NoError(t, err)
	p := &process{t: t, output: new(safeBuffer), ended: make(chan error, 1)}
	p.cmd = exec.Command(path, args...)
	p.cmd.Env = append(os.Environ(), environment...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	// Whatever it starts ends with it here, so that Wait does not wait for pipes.
	p.cmd.WaitDelay = 5 * time.Second
	require.NoError(t, p.cmd.Start())
	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() { _ = p.cmd.Process.Kill() }) // one that has ended is left alone
	return p
}

// wait returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case err := <-p.ended:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			require.NoError(p.t, err)
		}
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		require.FailNow(p.t, "the process did not end", p.output.String())
		return -1
	}
}

// says waits until the output holds text.
func (p *process) says(text string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	if !p.output.await(ctx, text) {
		require.FailNow(p.t, "not said: "+text, p.output.String())
	}
}

// safeBuffer can be read while it is written, and waited for.
type safeBuffer struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{}
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *safeBuffer) await(ctx context.Context, text string) bool {
	for {
		b.mu.Lock()
		if strings.Contains(b.text.String(), text) {
			b.mu.Unlock()
			return true
		}
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
