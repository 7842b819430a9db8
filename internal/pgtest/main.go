//go:build linux || darwin

package pgtest

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

// Main runs a package's tests, stops the shared cluster, checks that no
// goroutine is left, and exits. leaks are passed to goleak.
func Main(m *testing.M, leaks ...goleak.Option) { os.Exit(Run(m, leaks...)) }

// Run is Main for a TestMain that has something to do afterwards: it returns
// the exit code.
func Run(m *testing.M, leaks ...goleak.Option) int {
	AtOnce(testsPerCore)
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

const (
	// testsPerCore is how many parallel tests run at a time for each core: one, as
	// go test has it, leaves cores idle while it waits for PostgreSQL.
	testsPerCore = 2
	// mostAtOnce bounds them, for the memory of a large machine.
	mostAtOnce = 12
)

// AtOnce lets so many parallel tests run at a time for each core, unless -parallel
// says how many in all. It is for a TestMain whose tests mostly wait, before Run.
func AtOnce(perCore int) {
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	cores := runtime.GOMAXPROCS(0)
	if atOnce := max(cores, min(perCore*cores, mostAtOnce)); !said {
		// From now on it counts as said: the first caller decides.
		_ = flag.Set("test.parallel", strconv.Itoa(atOnce)) // a number is fine
	}
}
