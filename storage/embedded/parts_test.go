//go:build linux || darwin

package embedded

import (
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestScramVerifier(t *testing.T) {
	t.Parallel()
	// The example of RFC 7677: user "user", password "pencil". Its server
	// signature is made with the server key below, its client proof with a key
	// whose hash is the stored key.
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	require.NoError(t, err)
	verifier, err := scramVerifierWith("pencil", salt, 4096)
	require.NoError(t, err)
	require.Equal(t, "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=", verifier)

	require.True(t, scramMatches(verifier, "pencil"))
	require.False(t, scramMatches(verifier, "Pencil"))
	for _, rubbish := range []string{"", "md5abc", "SCRAM-SHA-256$", "SCRAM-SHA-256$-1:AA==$AA==:AA==", "SCRAM-SHA-256$4096:!$AA==:AA=="} {
		require.False(t, scramMatches(rubbish, "pencil"), rubbish)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	values := settings(Config{}, 5432, 8*gibibyte, "lz4")
	require.Equal(t, "1024MB", values["shared_buffers"])
	require.Equal(t, "on", values["fsync"])
	require.Equal(t, "on", values["synchronous_commit"])
	require.Equal(t, "64MB", settings(Config{}, 5432, 100*mebibyte, "on")["shared_buffers"])
	require.Equal(t, "off", settings(Config{Unsafe: true}, 5432, gibibyte, "on")["fsync"])
	require.Equal(t, "on", settings(Config{Throwaway: true}, 5432, gibibyte, "on")["fsync"], "throwaway is not unsafe")
	require.Equal(t, "1MB", settings(Config{Settings: map[string]string{"Shared_Buffers": "1MB"}}, 5432, gibibyte, "on")["shared_buffers"])
	require.Equal(t, "# Written by Mooring at every start; changes here are lost.\na = 'it''s'\nb = 'x y'\n",
		settingsText(map[string]string{"b": "x\ny", "a": "it's"}))
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for field, config := range map[string]Config{
		"Config.DataDir":  {},
		"Config.Port":     {DataDir: "x", Port: 70000},
		"use Config.Port": {DataDir: "x", Settings: map[string]string{"port": "1"}},
		"no name":         {DataDir: "x", Settings: map[string]string{"work_mem = '1MB'\nfsync": "1"}},
	} {
		_, err := Start(t.Context(), config)
		require.ErrorContains(t, err, field)
	}
}

func TestLogRotationAndTail(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "postgres.log")
	require.NoError(t, rotateLog(path, 10), "no log yet")
	require.Empty(t, logTail(path, 0))

	file, offset, err := openLog(path)
	require.NoError(t, err)
	defer file.Close()
	require.Zero(t, offset)
	_, err = file.WriteString("one\ntwo\n")
	require.NoError(t, err)
	require.NoError(t, rotateLog(path, 100))
	require.Equal(t, "one\ntwo", logTail(path, 0))
	require.Equal(t, "two", logTail(path, 4))

	require.NoError(t, rotateLog(path, 5))
	old, err := os.ReadFile(path + ".1")
	require.NoError(t, err)
	require.Equal(t, "one\ntwo\n", string(old))
	_, err = file.WriteString("three\n") // by the process that has it open
	require.NoError(t, err)
	require.Equal(t, "three", logTail(path, 8), "words begin anew after rotation")

	_, err = file.WriteString(strings.Repeat("line\n", 5000))
	require.NoError(t, err)
	require.Equal(t, strings.TrimSuffix(strings.Repeat("line\n", 20), "\n"), logTail(path, 0))
}

func TestPIDFile(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	_, found, err := readPIDFile(directory)
	require.NoError(t, err)
	require.False(t, found)
	for content, want := range map[string]pidFile{
		"":             {},
		"12":           {pid: 12},
		"-12\n/data\n": {pid: 12},
		"12\n/data\n1700000000\n5433\n\n127.0.0.1\n  5636140   1\nready   \n": {pid: 12, port: 5433, status: "ready"},
		"rubbish\n": {},
	} {
		require.NoError(t, os.WriteFile(pidFilePath(directory), []byte(content), 0o600))
		file, found, err := readPIDFile(directory)
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, want, file)
	}
}

func TestZombieIsNotAlive(t *testing.T) {
	t.Parallel()
	child := exec.CommandContext(t.Context(), "/bin/sleep", "600")
	require.NoError(t, child.Start())
	require.True(t, alive(child.Process.Pid))
	require.NoError(t, child.Process.Kill())
	waitUntil(t, func() bool { return !alive(child.Process.Pid) }) // not waited for: a zombie
	require.NoError(t, child.Process.Signal(syscall.Signal(0)), "it is still there")
	require.Error(t, child.Wait())
	require.False(t, alive(child.Process.Pid))
	require.False(t, alive(0))
	require.False(t, alive(-1))
}
