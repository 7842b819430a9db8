//go:build linux || darwin

package pgtest

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// Main runs a package's tests, stops the shared cluster, checks that no
// goroutine is left, and exits. leaks are passed to goleak.
func Main(m *testing.M, leaks ...goleak.Option) { os.Exit(Run(m, leaks...)) }

// Run is Main for a TestMain that has something to do afterwards: it returns
// the exit code.
func Run(m *testing.M, leaks ...goleak.Option) int {
	code := m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintf(os.Stderr, "pgtest: stop the shared cluster: %v\n", err)
		code = max(code, 1)
	}
	// After a failure goroutines are left behind for good reason.
	if code == 0 {
		if err := goleak.Find(leaks...); err != nil {
			fmt.Fprintf(os.Stderr, "goleak: %v\n", err)
			code = 1
		}
	}
	return code
}
