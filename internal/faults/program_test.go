//go:build linux

package faults_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
)

// The kernel kills a program with the thread that started it, and a thread ends
// with a goroutine that locked it: as each of the suite's that wait for a process.
func TestProgramOutlivesTheThreadThatAskedForIt(t *testing.T) {
	t.Parallel()
	for range 3 { // the first may be on the main thread, which never ends
		asked := make(chan *faults.Program)
		thread := make(chan int, 1)
		go func() {
			runtime.LockOSThread()
			thread <- syscall.Gettid()
			asked <- faults.StartProgram(t, exec.Command("sleep", "600"))
		}()
		program, id := <-asked, <-thread
		if id == os.Getpid() {
			continue
		}
		require.Eventually(t, func() bool {
			_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", id))
			return os.IsNotExist(err)
		}, faults.Patience, time.Millisecond, "the thread ends")
		program.Signal(syscall.SIGTERM)
		ended, _, _ := program.Wait()
		require.Equal(t, "signal: terminated", ended)
	}
}
