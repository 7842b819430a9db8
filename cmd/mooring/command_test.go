package main

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCommandsOfDemo sends commands to the demo's devices, as a person would.
func TestCommandsOfDemo(t *testing.T) {
	t.Parallel()
	demo, _ := startDemo(t)
	demo.says("psql")
	require.Eventually(t, func() bool { return demo.dataDirectory() != "" }, 30*time.Second, 10*time.Millisecond)
	data := demo.dataDirectory()
	command := func(args ...string) result {
		return mooring(t, append(append([]string{"command"}, args...), "--data-dir", data)...)
	}
	var all []deviceJSON
	require.NoError(t, json.Unmarshal([]byte(mooring(t, "device", "list", "--json", "--data-dir", data).stdout), &all))
	host := ""
	for _, device := range all {
		if !strings.HasPrefix(device.Name, "sim-") {
			host = device.Name
		}
	}

	done := command("send", "sim-1", "identify", "--wait", "--ttl", "30s")
	require.Equal(t, exitDone, done.code, done)
	require.Contains(t, done.stdout, `"device": "sim-1"`)
	require.Contains(t, done.stdout, "sim-1  identify  done")
	done = command("send", host, "set_interval", `{"ms": 200}`, "--wait", "--ttl", "30s", "--json")
	require.Equal(t, exitDone, done.code, done)
	var list []commandJSON
	require.NoError(t, json.Unmarshal([]byte(done.stdout), &list))
	require.JSONEq(t, `{"interval_ms": 200}`, string(list[0].Detail))
	require.JSONEq(t, `{"ms": 200}`, string(list[0].Args))

	refused := command("send", host, "reboot", "--wait", "--ttl", "30s")
	require.Equal(t, exitFailed, refused.code)
	require.Contains(t, refused.stdout, "does not reboot on command")
	unknown := command("send", "sim-2", "dance", "--wait", "--ttl", "30s")
	require.Equal(t, exitFailed, unknown.code)
	require.Contains(t, unknown.stdout, "sim-2  dance  refused")
	bad := command("send", "sim-2", "set_interval", `{"ms": -1}`, "--wait", "--ttl", "30s")
	require.Equal(t, exitFailed, bad.code)
	require.Contains(t, bad.stdout, "ms is -1")

	rebooted := command("broadcast", "reboot", "--model", "simulated", "--wait", "--ttl", "30s")
	require.Equal(t, exitDone, rebooted.code, rebooted)
	require.Equal(t, 4, strings.Count(rebooted.stdout, "  done  "))
	require.Eventually(t, func() bool {
		again := command("send", "sim-3", "identify", "--wait", "--ttl", "30s", "--json")
		return again.code == exitDone && !strings.Contains(again.stdout, `"boot": 0`)
	}, 60*time.Second, 200*time.Millisecond, "it has rebooted")

	shown := command("list", "sim-2")
	require.Contains(t, shown.stdout, "set_interval")
	shown = command("show", "1")
	for _, part := range []string{"asked by ", "queued", "sent", "done", "demo"} {
		require.Contains(t, shown.stdout, part)
	}

	require.Equal(t, exitNoDevice, command("send", "nobody", "identify").code)
	require.Equal(t, exitNoDevice, command("broadcast", "x", "--model", "none").code)
	require.Equal(t, exitUsage, command("broadcast", "x").code)
	require.Equal(t, exitUsage, command("send", "sim-1", "two words").code)
	require.Equal(t, exitUsage, command("send", "sim-1", "x", "{").code)
	require.Equal(t, exitFailed, command("show", "4711").code)

	require.NoError(t, demo.cmd.Process.Signal(syscall.SIGINT))
	require.Equal(t, exitDone, demo.wait(), demo.output)
	require.Contains(t, demo.output.String(), "clean: nothing acknowledged is missing")
}
