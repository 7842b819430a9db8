package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of /proc's processor times. The kernel fixes it at
// 100 a second for user space on every architecture Go runs on.
const clockTick = 10 * time.Millisecond

// processorTime is what a process has used so far, user and system; with
// children also what its ended and waited-for children have.
func processorTime(pid int, children bool) (time.Duration, error) {
	fields, err := readStat(pid)
	if err != nil {
		return 0, err
	}
	// Behind the name: state is field 3 of proc(5), utime 14, stime, cutime, cstime.
	last := 15
	if children {
		last = 17
	}
	var ticks int64
	for field := 14; field <= last; field++ {
		n, err := strconv.ParseInt(fields[field-3], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

// readStat gives the fields of /proc/PID/stat from the third on.
func readStat(pid int) ([]string, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	// The name is in parentheses and may hold anything.
	end := bytes.LastIndexByte(content, ')')
	fields := strings.Fields(string(content[end+1:]))
	if end < 0 || len(fields) < 15 {
		return nil, fmt.Errorf("/proc/%d/stat: not as expected", pid)
	}
	return fields, nil
}

// treeTime is what a process and its children have used, the living and the
// ended ones. PostgreSQL's processes are all children of its first.
func treeTime(root int) (time.Duration, error) {
	total, err := processorTime(root, true)
	if err != nil {
		return 0, err
	}
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(filepath.Base(entry))
		if err != nil {
			continue
		}
		fields, err := readStat(pid)
		if err != nil || fields[1] != strconv.Itoa(root) { // gone meanwhile, or not a child
			continue
		}
		if used, err := processorTime(pid, false); err == nil {
			total += used
		}
	}
	return total, nil
}

// memory reads a size of /proc/PID/status: VmRSS is what is resident, VmHWM the
// most there ever was.
func memory(pid int, name string) (int64, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			fields := strings.Fields(value)
			kibibytes, err := strconv.ParseInt(fields[0], 10, 64)
			return kibibytes << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status: no %s", pid, name)
}

// fileLimit is how many files this process may have open; the Go runtime has
// raised the soft limit to the hard one.
func fileLimit() (int, error) {
	content, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(line, "Max open files"); ok {
			fields := strings.Fields(value)
			if fields[0] == "unlimited" {
				return 1 << 20, nil
			}
			return strconv.Atoi(fields[0])
		}
	}
	return 0, errors.New("/proc/self/limits: no limit of open files")
}

// usage is the processor time of the three parties at one moment.
type usage struct {
	at                           time.Time
	gateway, postgres, generator time.Duration
}

// readUsage adds up the servers, and this process and the other generators.
func readUsage(postgres int, servers, generators []*child) (u usage, err error) {
	u.at = time.Now()
	add := func(total *time.Duration, pid int) {
		used, fault := processorTime(pid, false)
		*total += used
		err = errors.Join(err, fault)
	}
	for _, server := range servers {
		add(&u.gateway, server.pid())
	}
	add(&u.generator, os.Getpid())
	for _, generator := range generators {
		add(&u.generator, generator.pid())
	}
	used, fault := treeTime(postgres)
	u.postgres = used
	return u, errors.Join(err, fault)
}

// since is what was used between two moments; at is of no use in it.
func (u usage) since(before usage) usage {
	return usage{
		gateway: u.gateway - before.gateway, postgres: u.postgres - before.postgres, generator: u.generator - before.generator,
	}
}
