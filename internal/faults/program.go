//go:build linux

package faults

import (
	"bytes"
	"os/exec"
	"syscall"
	"testing"
)

// Program is one further program of a scenario: an older server, a proxy.
type Program struct {
	process *process
	output  bytes.Buffer // of the goroutine in exec.Cmd until the process has ended
	tb      testing.TB
}

// StartProgram starts a program that is no server of the stage's. It runs in a
// process group of its own, as the user that SysProcAttr.Credential names if
// any, and is killed when the test ends or this process dies. What it says is
// shown if the test failed.
func StartProgram(tb testing.TB, cmd *exec.Cmd) *Program {
	tb.Helper()
	p := &Program{tb: tb}
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	var err error
	if p.process, err = begin(cmd); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		p.process.kill()
		if tb.Failed() {
			tb.Logf("%s said last:\n%s", cmd.Path, tail(p.output.String(), 40))
		}
	})
	return p
}

// Signal sends a signal and does not wait.
func (p *Program) Signal(signal syscall.Signal) { p.process.signal(signal) }

// Wait waits for its end and returns how it ended and what it said.
func (p *Program) Wait() (ended string, code int, output string) {
	p.tb.Helper()
	code, err := p.process.wait(Patience)
	if err != nil {
		p.tb.Fatal(err)
	}
	return p.process.cmd.ProcessState.String(), code, p.output.String()
}
