package embedded

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// endWithParent makes the kernel stop the child, without a checkpoint, when the
// thread that forked it ends. SIGQUIT and not SIGKILL: Postgres then gives its
// shared memory back.
func endWithParent(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGQUIT }

// ended tells whether a process is only a zombie that nobody has waited for.
func ended(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	// pid (name) state …; the name may hold anything, brackets included.
	_, state, found := bytes.Cut(stat[max(bytes.LastIndexByte(stat, ')'), 0):], []byte(") "))
	return found && len(state) > 0 && (state[0] == 'Z' || state[0] == 'X')
}

// serves tells whether the process is a Postgres that works in clusterDir. Its
// command line says so, and its working directory, which root in a container
// without CAP_SYS_PTRACE may not see.
func serves(pid int, clusterDir string) bool {
	directory := filepath.Join("/proc", strconv.Itoa(pid))
	if work, err := os.Readlink(filepath.Join(directory, "cwd")); err == nil {
		return work == clusterDir
	}
	line, err := os.ReadFile(filepath.Join(directory, "cmdline"))
	if err != nil {
		return false
	}
	arguments := bytes.Split(line, []byte{0})
	place := slices.IndexFunc(arguments, func(argument []byte) bool { return string(argument) == "-D" })
	return place >= 0 && place+1 < len(arguments) && string(arguments[place+1]) == clusterDir
}
