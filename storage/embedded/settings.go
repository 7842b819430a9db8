//go:build linux || darwin

package embedded

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// settingsFile is included by postgresql.conf and written at every start.
const settingsFile = "mooring.conf"

const (
	kibibyte = int64(1) << 10
	mebibyte = int64(1) << 20
	gibibyte = int64(1) << 30
)

// settings are the parameters of a cluster whose work is one or a few writers
// that COPY, some short queries, and now and then a person's long one.
func settings(config Config, port int, memory int64, compression string) map[string]string {
	buffers := min(max(memory/4, 64*mebibyte), gibibyte)
	if config.Unsafe {
		buffers = 64 * mebibyte // several such clusters may run at once
	}
	values := map[string]string{ //nolint:gosec // no password among them
		// Reachable from this machine alone, by password alone. No Unix socket:
		// its path would have to be short and its folder writable.
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(port),
		"unix_socket_directories": "",
		"password_encryption":     "scram-sha-256",
		"cluster_name":            "mooring",
		"max_connections":         "100",

		// The promise: what is acknowledged survives a crash of the machine.
		"fsync":              "on",
		"synchronous_commit": "on",
		"full_page_writes":   "on",

		// Few, spread checkpoints: after each one every page that is touched
		// goes to the log as a whole.
		"checkpoint_timeout":           "15min",
		"checkpoint_completion_target": "0.9",
		"max_wal_size":                 "4GB",
		"min_wal_size":                 "512MB",
		"wal_compression":              compression,

		"shared_buffers":       strconv.FormatInt(buffers/mebibyte, 10) + "MB",
		"effective_cache_size": strconv.FormatInt(max(memory/2, 128*mebibyte)/mebibyte, 10) + "MB",
		"work_mem":             "16MB",
		"maintenance_work_mem": "128MB",
		"random_page_cost":     "1.1", // solid-state disks
		// Compiling a query over many partitions takes longer than running it.
		"jit": "off",

		// The server gives Postgres a file as its standard error and rotates it.
		"log_destination":            "stderr",
		"logging_collector":          "off",
		"log_line_prefix":            "%m [%p] %q%u@%d ",
		"log_lock_waits":             "on",
		"log_min_duration_statement": "10s",
		"log_timezone":               "UTC",
		"timezone":                   "UTC",
		"lc_messages":                "C",
	}
	if config.Unsafe {
		values["fsync"] = "off"
		values["full_page_writes"] = "off"
		values["max_wal_size"] = "1GB"
		values["min_wal_size"] = "80MB"
	}
	for name, value := range config.Settings {
		values[strings.ToLower(name)] = value
	}
	return values
}

// settingsText is the content of the settings file, in a fixed order, so that a
// running Postgres' settings can be compared with the wanted ones.
func settingsText(values map[string]string) string {
	var text strings.Builder
	text.WriteString("# Written by Mooring at every start; changes here are lost.\n")
	quote := strings.NewReplacer(`'`, `''`, `\`, `\\`, "\n", " ")
	for _, name := range slices.Sorted(maps.Keys(values)) {
		fmt.Fprintf(&text, "%s = '%s'\n", name, quote.Replace(values[name]))
	}
	return text.String()
}

// walCompression names the best compression of the write-ahead log that this
// build of Postgres knows.
func walCompression(ctx context.Context, who account, installation Installation, clusterDir string) string {
	_, err := who.run(ctx, false, clusterDir, installation.program("postgres"), "",
		"-D", clusterDir, "-C", "wal_compression", "-c", "wal_compression=lz4")
	if err == nil {
		return "lz4"
	}
	return "on"
}

// memoryBytes is how much memory this process may count on: the machine's, or
// the control group's if that is less. Without an answer it is 1 GiB.
func memoryBytes() int64 {
	total := gibibyte
	if content, err := os.ReadFile("/proc/meminfo"); err == nil {
		for line := range strings.Lines(string(content)) {
			fields := strings.Fields(line)
			if len(fields) >= 2 && fields[0] == "MemTotal:" {
				if count, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
					total = count * kibibyte
				}
			}
		}
	}
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		content, err := os.ReadFile(filepath.Clean(file))
		if err != nil {
			continue
		}
		if limit, err := strconv.ParseInt(strings.TrimSpace(string(content)), 10, 64); err == nil && limit > 0 {
			total = min(total, limit)
		}
	}
	return total
}
