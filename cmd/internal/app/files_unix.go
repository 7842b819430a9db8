//go:build unix

package app

import (
	"math"
	"syscall"
)

// fileLimit is how many files this process may have open; the Go runtime has
// raised the soft limit to the hard one. 0: not known, or no limit that counts.
func fileLimit() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > math.MaxInt32 {
		return 0
	}
	return int(limit.Cur)
}
