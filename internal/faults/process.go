//go:build linux

package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Patience is how long a scenario waits for what must happen: long, since two
// cores may be busy with much else.
const Patience = 90 * time.Second

// process is a program in a process group of its own, which the kernel kills
// should this one die.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed after Wait
}

// launch starts a program whose output goes to the files. limits, if any, is a
// line of the shell that is run first.
func launch(stdout, stderr *os.File, environment []string, limits, path string, arguments ...string) (*process, error) {
	if limits != "" {
		arguments = append([]string{"-c", limits + `; exec "$0" "$@"`, path}, arguments...)
		path = "/bin/sh"
	}
	cmd := exec.CommandContext(context.Background(), path, arguments...) //nolint:gosec // our own programs
	cmd.Env = append(os.Environ(), environment...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	return begin(cmd)
}

// launchAs starts a program as another user; nil: as this one.
func launchAs(account *syscall.Credential, directory string, log *os.File, path string, arguments ...string) (*process, error) {
	cmd := exec.CommandContext(context.Background(), path, arguments...) //nolint:gosec // PostgreSQL's own program
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = directory
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: account}
	return begin(cmd)
}

func begin(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Pdeathsig = true, syscall.SIGKILL
	started := make(chan error, 1)
	go func() {
		defer close(p.ended)
		// The kernel takes the end of the thread that started the process for the
		// end of its parent, so the thread stays until then.
		runtime.LockOSThread()
		err := p.cmd.Start()
		if started <- err; err == nil {
			_ = p.cmd.Wait() // how it ended is in ProcessState
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("faults: start %s: %w", cmd.Path, err)
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// signal reaches the process and all that it started.
func (p *process) signal(signal syscall.Signal) {
	if p.alive() {
		_ = syscall.Kill(-p.pid(), signal)
	}
}

func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// wait gives the exit code, -1 after a signal; an error if it did not end.
func (p *process) wait(limit time.Duration) (int, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-timer.C:
		return 0, fmt.Errorf("faults: process %d has not ended within %v", p.pid(), limit)
	}
}

// kill ends it and waits.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// statusBytes reads a size of /proc/PID/status: VmRSS is what is resident, VmHWM
// the most there ever was.
func statusBytes(pid int, name string) (int64, error) {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			kibibytes, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kibibytes << 10, err
		}
	}
	return 0, errors.New("faults: no " + name + " in the status of a process")
}

// run runs a program to its end and gives its standard output.
func run(tb testing.TB, path string, arguments ...string) (stdout []byte, code int) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, arguments...) //nolint:gosec // our own programs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	// See begin.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		tb.Fatalf("faults: %s: %v", path, err)
	}
	if code = cmd.ProcessState.ExitCode(); code != 0 {
		tb.Logf("%s %s ended with %d: %s", path, strings.Join(arguments, " "), code, errs.String())
	}
	return out.Bytes(), code
}

// tail is the end of a text, for messages.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
