package bench

import (
	"os"
	"runtime"
	"strconv"
	"strings"
)

// describeMachine tells what /proc says of the machine.
func describeMachine() (map[string]any, error) {
	limit, err := fileLimit()
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"cores": runtime.NumCPU(), "processor": valueOf("/proc/cpuinfo", "model name"),
		"memory_bytes": kibibytes(valueOf("/proc/meminfo", "MemTotal")),
		"platform":     runtime.GOOS + "/" + runtime.GOARCH, "kernel": firstLine("/proc/sys/kernel/osrelease"),
		"go": runtime.Version(), "file_limit": limit, "load_before": firstLine("/proc/loadavg"),
	}, nil
}

func firstLine(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(content), "\n")
	return line
}

// valueOf finds "key : value" in a file.
func valueOf(path, key string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(content)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func kibibytes(text string) int64 {
	number, _, _ := strings.Cut(text, " ")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}
