package embedded

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// endWithParent does nothing: macOS has no such means, and the watchdog of a
// throwaway cluster is enough.
func endWithParent(*syscall.SysProcAttr) {}

// ended tells whether a process is only a zombie that nobody has waited for.
func ended(pid int) bool { return strings.HasPrefix(processField(pid, "stat="), "Z") }

// serves tells whether the process is a Postgres that works in clusterDir,
// which is on the command line this package gives it.
func serves(pid int, clusterDir string) bool {
	command := processField(pid, "command=")
	return strings.Contains(command, "postgres") && strings.Contains(command, "-D "+clusterDir)
}

func processField(pid int, field string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	output, err := exec.CommandContext(ctx, "/bin/ps", "-ww", "-o", field, "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(output))
}
