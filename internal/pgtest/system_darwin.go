package pgtest

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// children lists the processes whose parent is pid.
func children(tb testing.TB, pid int) []int {
	tb.Helper()
	output, _ := exec.CommandContext(tb.Context(), "/usr/bin/pgrep", "-P", strconv.Itoa(pid)).Output() // fails if there are none
	var found []int
	for _, field := range strings.Fields(string(output)) {
		if child, err := strconv.Atoi(field); err == nil {
			found = append(found, child)
		}
	}
	return found
}

// fastBase is a folder in memory; macOS has none.
func fastBase() (string, bool) { return "", false }
