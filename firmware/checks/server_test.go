//go:build linux

package checks_test

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
	"mooring/internal/faults/proxy"
)

func TestMain(m *testing.M) { faults.Main(m) }

// posixDevice builds the device for computers, with sanitizers.
func posixDevice(t *testing.T) string {
	t.Helper()
	needs(t, "cc", "gcc libc6-dev")
	flags := append([]string{"-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"}, strict...)
	return compile(t, "cc", flags, "posix/main.c", "mooring.c")
}

// added makes a device and gives its name and token.
func added(t *testing.T, s *faults.Stage, prefix string) (name, token string) {
	t.Helper()
	file, err := os.Open(s.AddDevices(prefix, 1))
	require.NoError(t, err)
	defer file.Close()
	lines, err := csv.NewReader(file).ReadAll()
	require.NoError(t, err)
	last := lines[len(lines)-1]
	return last[0], last[1]
}

// outcome is what a device says of itself at its end.
type outcome struct{ made, settled, lost, rejected, connects uint64 }

// device runs a program until it ends, within patience.
func device(t *testing.T, program string, arguments ...string) outcome {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, arguments...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Start())
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Signal(syscall.SIGABRT) })
	defer late.Stop()
	require.NoError(t, cmd.Wait(), "%s%s", &stdout, &stderr)
	var o outcome
	text := stdout.String() + stderr.String() // QEMU lets programs talk on stderr
	at := strings.Index(text, "made ")
	require.GreaterOrEqual(t, at, 0, text)
	_, err := fmt.Sscanf(text[at:], "made %d settled %d lost %d rejected %d connects %d", &o.made, &o.settled, &o.lost, &o.rejected, &o.connects)
	require.NoError(t, err, text)
	t.Logf("%+v", o)
	return o
}

// stored checks that what the device says was settled is stored once and with
// the right values, but for the rows that it says it gave up. A row that was
// given up may have been stored before its ACK came.
func stored(t *testing.T, s *faults.Stage, name string, o outcome) {
	t.Helper()
	is := s.SQL(fmt.Sprintf(`SELECT count(*), count(DISTINCT seq), coalesce(max(seq), -1) FROM mooring.samples WHERE device_id = (SELECT id FROM mooring.devices WHERE name = '%s')`, name))[0]
	rows, err := strconv.ParseUint(is[0], 10, 64)
	require.NoError(t, err)
	require.Equal(t, is[0], is[1], "a row is stored twice")
	require.GreaterOrEqual(t, rows+o.lost, o.settled, "a row that was acknowledged is missing")
	require.LessOrEqual(t, rows, o.settled)
	require.Equal(t, strconv.FormatUint(o.settled-1, 10), is[2])
	if o.lost == 0 {
		require.Equal(t, o.settled, rows)
	}
	require.Zero(t, o.rejected)
	wrong := s.SQL(fmt.Sprintf(`SELECT count(*) FROM mooring.readings WHERE device = '%s' AND
		NOT CASE metric WHEN 'n' THEN value = seq ELSE text = 'r' || seq END`, name))[0][0]
	require.Equal(t, "0", wrong, "values")
}

// judged has fleet verify judge the rows of a device by the ledger that it wrote.
func judged(t *testing.T, s *faults.Stage, ledger string, o outcome) {
	t.Helper()
	verdict := s.VerdictOf(ledger)
	t.Logf("%+v", verdict)
	require.True(t, verdict.Clean, "%+v", verdict) // nothing missing, twice, wrong, unexpected or refused; the books balance
	require.Equal(t, o.made, verdict.Sent)
	require.Equal(t, o.settled, verdict.Acked)
	require.Equal(t, o.lost, verdict.Given)
	require.LessOrEqual(t, verdict.Stored, verdict.Acked)
	require.GreaterOrEqual(t, verdict.Stored+verdict.Given, verdict.Acked)
	require.Zero(t, o.rejected)
}

// notBlind checks that fleet verify finds fault with a ledger that says something
// else than the device did: other values, and ten more rows acknowledged.
func notBlind(t *testing.T, s *faults.Stage, ledger string, o outcome, channels string) {
	t.Helper()
	text, err := os.ReadFile(ledger)
	require.NoError(t, err)
	other := filepath.Join(t.TempDir(), "other")
	if channels == "7" {
		require.NoError(t, os.WriteFile(other, bytes.Replace(text, []byte(`"seed":`), []byte(`"seed":9`), 1), 0o600))
		verdict := s.VerdictOf(other)
		require.Equal(t, o.settled, verdict.Wrong)
	}
	more := fmt.Appendf(text, `{"kind":"state","index":0,"boot":0,"sent":%[1]d,"acked":%[1]d,"end":true}`+"\n", o.settled+10)
	require.NoError(t, os.WriteFile(other, more, 0o600))
	verdict := s.VerdictOf(other)
	require.EqualValues(t, 10, verdict.Missing)
	require.False(t, verdict.Clean)
}

// calm ends the trouble of a line after a while, once there was some.
func calm(t *testing.T, p *proxy.Proxy) {
	t.Helper()
	ctx, ended := t.Context(), make(chan struct{})
	go func() {
		defer close(ended)
		look := time.NewTicker(100 * time.Millisecond)
		defer look.Stop()
		for begun := time.Now(); ; {
			select {
			case <-look.C:
			case <-ctx.Done():
				return
			}
			faults := p.Counts()
			delete(faults, "connections")
			delete(faults, "one byte at a time") // breaks nothing
			if len(faults) > 0 && time.Since(begun) > 15*time.Second {
				p.Calm()
				return
			}
		}
	}()
	t.Cleanup(func() { <-ended })
}

func TestFaultFirmware(t *testing.T) {
	t.Parallel()
	program := posixDevice(t)
	s := faults.Start(t, faults.Options{Expect: "each row of a device in C that was acknowledged is stored once, whatever happens to its line"})

	t.Run("sound line", func(t *testing.T) {
		t.Parallel()
		name, token := added(t, s, "sound-")
		o := device(t, program, s.Server.StreamURL(), token, "rate=500", "rows=3000", "frame=700")
		require.EqualValues(t, 1, o.connects)
		require.Zero(t, o.lost)
		require.Equal(t, o.made, o.settled)
		stored(t, s, name, o)
	})
	for _, channels := range []string{"1", "7"} { // packed, and everything else
		t.Run("ledger of "+channels, func(t *testing.T) {
			t.Parallel()
			name, token := added(t, s, "judged"+channels+"-")
			ledger := filepath.Join(t.TempDir(), "ledger")
			o := device(t, program, s.Server.StreamURL(), token, "rate=500", "rows=2000", "frame=700",
				"ledger="+ledger, "device="+name, "channels="+channels, "seed="+strconv.FormatUint(s.Seed, 10))
			require.Zero(t, o.lost)
			judged(t, s, ledger, o)
			notBlind(t, s, ledger, o, channels)
		})
	}
	lines := []struct {
		name, flag string
		plan       func(n int, random *rand.Rand) proxy.Plan
	}{
		{"cut and reset", "ring=65536", func(_ int, random *rand.Rand) proxy.Plan {
			return proxy.Plan{
				Action: proxy.Action(1 + random.IntN(2)), Direction: proxy.Direction(random.IntN(2)),
				At: proxy.Point{Part: 1 + random.IntN(20), Offset: []int64{proxy.Half, proxy.End, 1, 3}[random.IntN(4)]},
			}
		}},
		{"byte by byte", "ring=65536", func(int, *rand.Rand) proxy.Plan {
			return proxy.Plan{Piece: 1, PieceFor: 3000, Action: proxy.Cut, At: proxy.Point{Part: 30, Offset: proxy.End}}
		}},
		{"half open", "ring=65536", func(n int, random *rand.Rand) proxy.Plan {
			if n > 2 {
				return proxy.Plan{}
			}
			return proxy.Plan{Action: []proxy.Action{proxy.Vanish, proxy.Swallow}[n%2], At: proxy.Point{Part: 3 + random.IntN(10), Offset: proxy.Half}}
		}},
		{"small ring", "ring=600", func(_ int, random *rand.Rand) proxy.Plan {
			return proxy.Plan{Action: proxy.Cut, At: proxy.Point{Part: 5 + random.IntN(20), Offset: proxy.End}}
		}},
		{"handshake", "ring=65536", func(n int, _ *rand.Rand) proxy.Plan {
			if n < 8 {
				return proxy.Plan{Action: proxy.Cut, Direction: proxy.Direction(n % 2), At: proxy.Point{Offset: int64(n * 30)}}
			}
			return proxy.Plan{}
		}},
	}
	for i, line := range lines {
		t.Run(line.name, func(t *testing.T) {
			t.Parallel()
			p, err := proxy.Start(proxy.Config{Target: s.Server.Addr(), Seed: s.Seed, Plan: line.plan})
			require.NoError(t, err)
			t.Cleanup(p.Close)
			name, token := added(t, s, fmt.Sprintf("line%d-", i))
			ledger := filepath.Join(t.TempDir(), "ledger")
			calm(t, p)
			o := device(t, program, "ws://"+p.Addr()+"/v1/stream", token, "rate=250", "rows=1500", "frame=512", "wait=100", "drop="+strconv.Itoa(i%2), line.flag,
				"ledger="+ledger, "device="+name, "run="+strconv.Itoa(i+2))
			require.Equal(t, o.made, o.settled)
			judged(t, s, ledger, o)
			t.Log(p.Counts())
			if line.flag == "ring=600" {
				require.Positive(t, o.lost, "the ring must have been too small")
			} else {
				require.Zero(t, o.lost)
				require.Greater(t, o.connects, uint64(1))
			}
		})
	}
}

// TestFaultFirmwareCortexM runs the client as a program of an emulated Cortex-M3
// whose serial line is the connection to the server.
func TestFaultFirmwareCortexM(t *testing.T) {
	t.Parallel()
	needs(t, "arm-none-eabi-gcc", "gcc-arm-none-eabi libnewlib-arm-none-eabi")
	needs(t, "qemu-system-arm", "qemu-system-arm")
	program := compile(t, "arm-none-eabi-gcc", []string{
		"-std=gnu99", "-Wall", "-Wextra", "-Werror", "-Os", "-mthumb", "-mcpu=cortex-m3", "-ffreestanding",
		"-fno-tree-loop-distribute-patterns", "-nostdlib", "-T", "../qemu/link.ld",
	}, "qemu/main.c", "mooring.c")
	s := faults.Start(t, faults.Options{Expect: "each row of a Cortex-M that was acknowledged is stored once"})
	name, token := added(t, s, "cortex-")
	host, port, _ := strings.Cut(s.Server.Addr(), ":")
	o := device(t, "qemu-system-arm", "-M", "mps2-an385", "-nographic", "-monitor", "none", "-kernel", program,
		"-chardev", "socket,id=line,host="+host+",port="+port, "-serial", "chardev:line",
		"-semihosting-config", "enable=on,target=native,arg=device,arg="+token+",arg=1000")
	require.GreaterOrEqual(t, o.made, uint64(1000))
	require.Equal(t, o.made, o.settled)
	require.Zero(t, o.lost)
	stored(t, s, name, o)
}
