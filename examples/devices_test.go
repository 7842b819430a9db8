//go:build linux

package examples

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
	"mooring/internal/faults/proxy"
	"mooring/storage"
)

// patience bounds each wait; CI's machines are slow and busy, and Chromium's start
// was seen to take 90 s on a third of a core.
const patience = 3 * time.Minute

// A program prints this when it ends.
var summary = regexp.MustCompile(`measured (\d+), settled (\d+), refused (\d+), given up (\d+)\n?$`)

// python finds an interpreter that has the modules.
func python(t *testing.T, modules ...string) string {
	t.Helper()
	for _, interpreter := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(interpreter, "-c", "import "+strings.Join(modules, ",")).Run() == nil {
			return interpreter
		}
	}
	missing(t, "python3 with "+strings.Join(modules, ", "))
	return ""
}

// missing ends a test that lacks a program: a laptop is excused, CI is not.
func missing(t *testing.T, what string) {
	t.Helper()
	require.NotEqual(t, "true", os.Getenv("CI"), "%s is not installed", what)
	t.Skipf("%s is not installed", what)
}

// device is an example device: its command line lacks URL, token and seconds
// between rows.
type device struct {
	what string
	line func(t *testing.T) []string
}

var devices = []device{
	{"python-asyncio", pythonDevice("python/device_asyncio.py", "websockets", "msgpack")},
	{"python-sync", pythonDevice("python/device_sync.py", "websocket", "msgpack")},
	{"micropython", nodeDevice("javascript/micropython.mjs")},
	{"micropython-cpython", pythonDevice("micropython/host.py", "asyncio")},
	{"node", nodeDevice("javascript/device.mjs")},
}

func nodeDevice(script string) func(*testing.T) []string {
	return func(t *testing.T) []string {
		t.Helper()
		return []string{node(t), script}
	}
}

// node finds Node, with the packages of the examples installed.
func node(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("node")
	if err != nil {
		missing(t, "node")
	}
	for _, module := range []string{"ws", "@micropython/micropython-webassembly-pyscript"} {
		if _, err := os.Stat("javascript/node_modules/" + module); err != nil {
			missing(t, "javascript/node_modules (npm ci --prefix examples/javascript)")
		}
	}
	return program
}

func pythonDevice(script string, modules ...string) func(*testing.T) []string {
	return func(t *testing.T) []string {
		t.Helper()
		return []string{python(t, modules...), "-Bu", script}
	}
}

// output gathers what a program prints.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// program is a running example.
type program struct {
	*exec.Cmd
	output output
	over   chan struct{} // closed when it has ended
	err    error         // how it ended; when over is closed
}

func start(t *testing.T, arguments ...string) *program {
	t.Helper()
	p := &program{Cmd: exec.CommandContext(context.WithoutCancel(t.Context()), arguments[0], arguments[1:]...), over: make(chan struct{})}
	p.Stdout, p.Stderr = &p.output, &p.output
	require.NoError(t, p.Start())
	go func() {
		defer close(p.over)
		p.err = p.Wait()
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill() // it may have ended
		<-p.over
		if t.Failed() {
			t.Logf("%s printed:\n%s", strings.Join(arguments, " "), p.output.String())
		}
	})
	return p
}

// end asks it to end, waits, and gives the numbers it prints at the end.
func (p *program) end(t *testing.T) (measured, settled, refused, givenUp int) {
	t.Helper()
	before := len(p.output.String())
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	select {
	case <-p.over:
		require.NoError(t, p.err)
	case <-time.After(patience):
		require.FailNow(t, "the program does not end")
	}
	said := summary.FindStringSubmatch(p.output.String())
	require.NotNil(t, said, "the last line must be the summary")
	require.NotContains(t, p.output.String()[before:], "away", "it does not mean to come back")
	var numbers [4]int
	for i := range numbers {
		var err error
		numbers[i], err = strconv.Atoi(said[i+1])
		require.NoError(t, err)
	}
	return numbers[0], numbers[1], numbers[2], numbers[3]
}

// added makes a device and gives its name and token.
func added(t *testing.T, stage *faults.Stage, prefix string) (name, token string) {
	t.Helper()
	file, err := os.Open(stage.AddDevices(prefix, 1))
	require.NoError(t, err)
	defer file.Close()
	records, err := csv.NewReader(file).ReadAll()
	require.NoError(t, err)
	last := records[len(records)-1]
	return last[0], last[1]
}

// ask gives the only row of a query.
func ask(t *testing.T, stage *faults.Stage, sql string) []string {
	t.Helper()
	reader, err := storage.OpenReader(t.Context(), stage.DatabaseURL)
	require.NoError(t, err)
	defer reader.Close()
	_, rows, err := reader.Table(t.Context(), sql)
	require.NoError(t, err)
	require.Len(t, rows, 1)
	return rows[0]
}

func stored(t *testing.T, stage *faults.Stage, device string) int {
	t.Helper()
	count, err := strconv.Atoi(ask(t, stage, "SELECT count(*) FROM samples s JOIN devices d ON d.id = s.device_id WHERE d.name = '"+device+"'")[0])
	require.NoError(t, err)
	return count
}

// breaking stands before the stage's server and breaks a device's line, as one plan
// after the other says. A connection that ends before its time, as on a busy
// machine, leaves its plan to the next.
func breaking(t *testing.T, stage *faults.Stage, plans ...proxy.Plan) *proxy.Proxy {
	t.Helper()
	var link atomic.Pointer[proxy.Proxy]
	started, err := proxy.Start(proxy.Config{Target: stage.Server.Addr(), Seed: stage.Seed, Plan: func(int, *rand.Rand) proxy.Plan {
		if done := broken(link.Load()); done < len(plans) {
			return plans[done]
		}
		return proxy.Plan{}
	}})
	require.NoError(t, err)
	t.Cleanup(started.Close)
	link.Store(started) // nobody knows its address before
	return started
}

// broken tells how often a line was broken.
func broken(link *proxy.Proxy) int {
	counts := link.Counts()
	return counts["cut"] + counts["reset"]
}

// TestDevices: the line of every device is cut again and again, also in the
// middle of a frame and before an ACK, and the server is killed; and still every
// row it measured is stored once, under its number, in order.
func TestDevices(t *testing.T) {
	t.Parallel()
	stage := faults.Start(t, faults.Options{Expect: "example devices lose nothing and store nothing twice"})
	running := map[string]*program{} // by name of the device
	proxies := map[string]*proxy.Proxy{}
	for _, example := range devices {
		line := example.line(t)
		name, token := added(t, stage, example.what+"-")
		link := breaking(t, stage,
			// In the middle of a frame of the device: HELLO, LAYOUT, DATA …
			proxy.Plan{Action: proxy.Reset, Direction: proxy.Up, At: proxy.Point{Part: 12, Offset: proxy.Half}},
			// What the server says no longer comes through, then the line breaks: rows are stored, and not acknowledged.
			proxy.Plan{Action: proxy.Cut, Direction: proxy.Down, At: proxy.Point{Part: 4, Offset: 0}},
			proxy.Plan{Action: proxy.Reset, Direction: proxy.Up, At: proxy.Point{Part: 9, Offset: proxy.End}})
		proxies[name] = link
		running[name] = start(t, append(line, "ws://"+link.Addr()+"/v1/stream", token, "0.05")...)
	}
	for name, link := range proxies {
		require.Eventually(t, func() bool { return broken(link) == 3 }, patience, 50*time.Millisecond, "the device did not come back: %s", name)
	}
	stage.Server.Kill()
	stage.Server.Start()
	for name, device := range running {
		before := stored(t, stage, name)
		require.Eventually(t, func() bool { return stored(t, stage, name) > before+5 }, patience, 100*time.Millisecond, name)

		measured, settled, refused, givenUp := device.end(t)
		require.Positive(t, measured, name)
		require.Equal(t, measured, settled, name)
		require.Zero(t, refused, name)
		require.Zero(t, givenUp, name)
		row := ask(t, stage, `SELECT count(*), count(DISTINCT seq), min(seq), max(seq),
			(SELECT count(*) FROM gaps_of('`+name+`')), bool_and(ordered), bool_and(ts BETWEEN now() - interval '10 minutes' AND now() + interval '1 minute')
			FROM (SELECT s.*, ts >= lag(ts, 1, '-infinity') OVER (ORDER BY seq) AS ordered
			FROM samples s JOIN devices d ON d.id = s.device_id WHERE d.name = '`+name+`') x`)
		count := strconv.Itoa(measured)
		require.Equal(t, []string{count, count, "0", strconv.Itoa(measured - 1), "0"}, row[:5], name)
		require.Equal(t, []string{"t", "t"}, row[5:], name)
		require.Equal(t, 1, proxies[name].Counts()["cut"], name)
		require.Equal(t, 2, proxies[name].Counts()["reset"], name)
	}
}

// TestCommands: every device answers what it knows, what it does not, and what
// makes no sense.
func TestCommands(t *testing.T) {
	t.Parallel()
	stage := faults.Start(t, faults.Options{Expect: "example devices answer commands"})
	mooring := stage.Program("mooring")
	for _, example := range devices {
		line := example.line(t)
		name, token := added(t, stage, example.what+"-")
		t.Run(example.what, func(t *testing.T) {
			t.Parallel()
			device := start(t, append(line, stage.Server.StreamURL(), token, "2")...)
			for _, asked := range []struct {
				name, args, state string
				status            int
			}{
				{"identify", "null", "done", 0},
				{"set_interval", `{"ms": 50}`, "done", 0},
				{"set_interval", `{"ms": "soon"}`, "refused", 4},
				{"set_interval", `[]`, "refused", 4},
				{"no_such_command", "null", "refused", 3},
			} {
				output, err := exec.Command(mooring, "command", "send", name, asked.name, asked.args,
					"--wait", "--json", "--ttl", patience.String(), "--database-url", stage.DatabaseURL).Output()
				var answers []struct {
					State  string
					Status int
				}
				require.NoError(t, json.Unmarshal(output, &answers), "%s %v", output, err)
				require.Len(t, answers, 1)
				require.Equal(t, asked.state, answers[0].State, "%s: %s", asked.name, output)
				require.Equal(t, asked.status, answers[0].Status, "%s: %s", asked.name, output)
			}
			// It measures as often as it was told: not every 2 s.
			require.Eventually(t, func() bool { return stored(t, stage, name) >= 20 }, patience, 50*time.Millisecond)
			device.end(t)
		})
	}
}
