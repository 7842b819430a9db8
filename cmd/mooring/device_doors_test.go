package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

func TestDeviceQuota(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	do := func(args ...string) result {
		t.Helper()
		return mooring(t, append(append([]string{"device"}, args...), "--database-url", url)...)
	}
	require.Equal(t, exitDone, do("add", "a").code)
	require.Equal(t, exitNoDevice, do("quota", "b").code)
	require.Contains(t, do("quota", "a").stdout, "The quota of a, a second: rows default, bytes default.\ndefault: as --device-rows")
	require.Equal(t, exitUsage, do("quota", "a", "--rows", "few").code)
	require.Contains(t, do("show", "a").stdout, "quota      rows default, bytes default a second\n")

	changed := do("quota", "a", "--rows", "10")
	require.Equal(t, "The quota of a, a second: rows 10, bytes default. It holds from the device's next connection on.\n"+
		"default: as --device-rows and --device-bytes of the server say.\n", changed.stdout)
	require.Contains(t, do("quota", "a", "--bytes", "2KiB").stdout, "rows 10, bytes 2048. It holds", "the rows stay")
	require.JSONEq(t, `{"name":"a","state":"quota","rows":"10","bytes":"2048"}`, do("quota", "a", "--json").stdout, "looking changes nothing")
	require.Contains(t, do("show", "a").stdout, "quota      rows 10, bytes 2048 a second\n")
	require.Contains(t, do("show", "a", "--json").stdout, "\"quota\": {\n    \"rows\": \"10\",\n    \"bytes\": \"2048\"\n  }")
	require.Contains(t, do("quota", "a", "--rows", "none", "--bytes", "default").stdout, "rows none, bytes default.")
}
