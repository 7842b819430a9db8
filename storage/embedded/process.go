//go:build linux || darwin

package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// environment is what Postgres and its tools see. The server's own environment
// is withheld: PGDATA, PGPORT and the like would be obeyed, and secrets don't
// belong there. The C locale keeps messages in English (some are looked for)
// and macOS from refusing to start.
func environment(home string) []string {
	variables := []string{
		"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
		"HOME=" + home,
		"LC_ALL=C",
		"LANG=C",
		"TZ=UTC",
	}
	for _, name := range []string{"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR"} {
		if value := os.Getenv(name); value != "" && (name != "TMPDIR" || os.Geteuid() != 0) {
			variables = append(variables, name+"="+value)
		}
	}
	return variables
}

// command prepares a program of Postgres' to be run as the account, in its own
// session, with directory as its working directory.
func (a account) command(ctx context.Context, directory, program string, arguments ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, arguments...) //nolint:gosec // a program of an installation
	cmd.Dir = directory
	cmd.Env = environment(directory)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if a.drop {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	// A child of the program that holds its output open must not hold us up.
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run runs a short program to its end and returns what it said. With
// dieWithUs it is ended when this process dies, where the system can do that.
func (a account) run(ctx context.Context, dieWithUs bool, directory, program, input string, arguments ...string) (string, error) {
	if dieWithUs {
		// Linux ties the child to the thread that forked it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	for {
		cmd := a.command(ctx, directory, program, arguments...)
		if dieWithUs {
			endWithParent(cmd.SysProcAttr)
		}
		if input != "" {
			cmd.Stdin = strings.NewReader(input)
		}
		output, err := cmd.CombinedOutput()
		switch {
		case err == nil:
			return string(output), nil
		case ctx.Err() != nil:
			return string(output), ctx.Err()
		case errors.Is(err, syscall.ETXTBSY):
			// A program just unpacked by this process is open for writing in
			// any child that is being forked at this moment (golang/go#22315).
			if err := pause(ctx, 10*time.Millisecond); err != nil {
				return "", err
			}
		default:
			return string(output), a.explain(err)
		}
	}
}

// explain adds what is known about a refused start of a program.
func (a account) explain(err error) error {
	if errors.Is(err, syscall.EPERM) && a.drop {
		return fmt.Errorf("%w (this process is root but may not become user %s: does its container or service withhold CAP_SETUID and CAP_SETGID?)", err, a.name)
	}
	return err
}

// alive tells whether there is a process with this id that has not ended.
func alive(pid int) bool {
	if pid <= 0 {
		return false
	}
	err := syscall.Kill(pid, 0)
	return (err == nil || errors.Is(err, syscall.EPERM)) && !ended(pid)
}
