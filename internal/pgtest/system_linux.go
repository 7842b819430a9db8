package pgtest

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// children lists the processes whose parent is pid.
func children(tb testing.TB, pid int) []int {
	tb.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	var found []int
	for _, entry := range entries {
		child, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue // it has just ended
		}
		// pid (name) state parent …; the name may hold anything.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			found = append(found, child)
		}
	}
	return found
}

// fastBase is a folder in memory, if there is one with room: making a cluster
// and copying databases is mostly making files, several times faster there.
// Containers often have one of 64 MB, which is too small.
func fastBase() (string, bool) {
	const folder, room = "/dev/shm", 2 << 30
	var stat syscall.Statfs_t
	if err := syscall.Statfs(folder, &stat); err != nil {
		return "", false
	}
	if stat.Bavail*uint64(stat.Bsize) < room {
		return "", false
	}
	return folder, syscall.Access(folder, 7) == nil
}
