package conform

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	root       = "../../.." // of the repository
	clientsDoc = root + "/docs/CLIENTS.md"
	// clientsAtOnce bounds how many clients are held against the protocol at a time,
	// each as a dozen programs.
	clientsAtOnce = 5
)

// client is one of them.
type client struct {
	name     string
	source   string // in the repository
	prepare  func(t *testing.T) (command, missing string)
	parallel int // programs at a time; 0: as many as conform likes
}

// programs are the clients of this repository: one line each. A line's prepare
// finds or builds what the command needs; an empty command means that a tool is
// missing, which the second result names.
var programs = []client{
	{"Go", "examples/go", goDevice, 0},
	{"Python, asyncio", "examples/python/device_asyncio.py", pythonDevice("device_asyncio.py", "websockets", "msgpack"), 0},
	{"Python, no asyncio", "examples/python/device_sync.py", pythonDevice("device_sync.py", "websocket", "msgpack"), 0},
	{"MicroPython, under CPython", "examples/micropython/device.py", pythonDevice("../micropython/host.py", "asyncio"), 0},
	{microPython, "examples/javascript/micropython.mjs", microPythonDevice, 0},
	{"JavaScript, Node", "examples/javascript/device.mjs", nodeDevice, 0},
	{"JavaScript, browser", "examples/javascript/browser/device.mjs", browserDevice, 8},
	{"C", "firmware/posix/main.c", cDevice, 0},
}

// exceptions are the rules that a client does not keep, or that can't be shown with
// it, and why. Every other cell of the table is "kept", which the test sees to.
var exceptions = []struct {
	client, rule string
	state        State
	why          string
}{
	{"JavaScript, browser", ruleUnauthorized, Broken, noStatus},
	{"JavaScript, browser", ruleRetryAfter, Broken, noStatus},
	{"JavaScript, browser", ruleRetryAfterBound, NotShown, noStatus},
	{"JavaScript, browser", ruleBadHandshake, NotShown, noStatus},
	{"JavaScript, browser", ruleTLS, NotShown, browsersTLS},
	{"JavaScript, browser", ruleTLSCheck, NotShown, browsersTLS},
	{microPython, ruleTLS, NotShown, interpretersTLS},
	{microPython, ruleTLSCheck, NotShown, interpretersTLS},
	{"C", ruleTLS, NotShown, stacksTLS},
	{"C", ruleTLSCheck, NotShown, stacksTLS},
}

// skipped are scenarios that a client is not put through, because they can show
// nothing.
var skipped = map[string][]string{
	"JavaScript, browser": {"refused with 502", "refused with 400 and 426", "over TLS", "wrong certificates"},
	microPython:           {"over TLS", "wrong certificates"},
}

// microPython is the device of examples/micropython under its own interpreter.
const microPython = "MicroPython, WebAssembly"

const (
	browsersTLS     = "TLS is the browser's, and a page can't have it look away. Here the page comes from a server on this machine, over plain HTTP."
	interpretersTLS = "MicroPython 1.27, compiled to WebAssembly, has no TLS, and its sockets are Node's. Its unix port, which has both, " +
		"kept the two rules by hand on 2026-11-21 ([examples](../examples/README.md))."
	stacksTLS = "This program speaks plain TCP. On a device TLS belongs to the system's own stack, under the same callbacks; " +
		"the ports of firmware/ports say how to have it check the certificate."
	noStatus = "A browser does not tell a page with which HTTP status a handshake was refused, nor with which headers: " +
		"401 and 503 look like a broken line to it. So it waits as for class R (§9.2), longer and longer, up to 10 minutes."
)

func goDevice(t *testing.T) (command, missing string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "device")
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, root+"/examples/go").CombinedOutput()
	require.NoError(t, err, string(output))
	return program + " -every 50ms {url} {token}", ""
}

// pythonDevice runs a script with the first interpreter that has the modules.
func pythonDevice(script string, modules ...string) func(t *testing.T) (command, missing string) {
	return func(t *testing.T) (command, missing string) {
		t.Helper()
		for _, interpreter := range []string{"python3", "/usr/bin/python3"} {
			if exec.CommandContext(t.Context(), interpreter, "-c", "import "+strings.Join(modules, ",")).Run() == nil {
				return interpreter + " -Bu " + root + "/examples/python/" + script + " {url} {token} 0.05", ""
			}
		}
		return "", "python3 with " + strings.Join(modules, ", ")
	}
}

// nodeDevice needs the packages of the examples.
func nodeDevice(*testing.T) (command, missing string) {
	return nodeScript("device.mjs", "ws")
}

// microPythonDevice needs the interpreter, which is one of them.
func microPythonDevice(*testing.T) (command, missing string) {
	return nodeScript("micropython.mjs", "@micropython")
}

func nodeScript(script, needs string) (command, missing string) {
	if _, err := exec.LookPath("node"); err != nil {
		return "", "node"
	}
	if _, err := os.Stat(root + "/examples/javascript/node_modules/" + needs); err != nil {
		return "", "examples/javascript/node_modules (npm ci --prefix examples/javascript)"
	}
	return "node " + root + "/examples/javascript/" + script + " {url} {token} 0.05", ""
}

// browserDevice needs Chromium as well, which a script starts without a window.
func browserDevice(t *testing.T) (command, missing string) {
	t.Helper()
	if _, missing := nodeDevice(t); missing != "" {
		return "", missing
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if browser, err := exec.LookPath(name); err == nil {
			//nolint:usetesting // Chromium's last writes may come while a test's folder is being removed
			profiles, err := os.MkdirTemp("", "mooring-conform-")
			require.NoError(t, err)
			t.Cleanup(func() { _ = os.RemoveAll(profiles) })
			return "TMPDIR=" + profiles + " exec node testdata/browser.mjs " + browser + " " + root + "/examples/javascript {url} {token}", ""
		}
	}
	return "", "chromium"
}

// cDevice is the firmware's client over POSIX sockets.
func cDevice(t *testing.T) (command, missing string) {
	t.Helper()
	if _, err := exec.LookPath("cc"); err != nil {
		return "", "cc"
	}
	program := filepath.Join(t.TempDir(), "device")
	output, err := exec.CommandContext(t.Context(), "cc", "-std=c99", "-O1", "-o", program,
		root+"/firmware/posix/main.c", root+"/firmware/mooring.c").CombinedOutput()
	require.NoError(t, err, string(output))
	return program + " {url} {token} rate=20", ""
}

// TestClients holds every client of this repository against the protocol. What is
// not kept is looked at once more, with few programs at a time: a busy machine is
// no client's fault.
func TestClients(t *testing.T) {
	t.Parallel()
	room := make(chan struct{}, clientsAtOnce)
	var players sync.WaitGroup
	longestFirst := slices.Clone(programs)
	slices.SortStableFunc(longestFirst, func(a, b client) int { return cmp.Compare(b.parallel, a.parallel) })
	for _, of := range longestFirst {
		command, missing := of.prepare(t)
		if command == "" {
			require.NotEqual(t, "true", os.Getenv("CI"), "%s: %s is not installed", of.name, missing)
			t.Logf("%s is left out: %s is not installed", of.name, missing)
			continue
		}
		room <- struct{}{}
		players.Go(func() {
			defer func() { <-room }()
			report, err := runTwice(t.Context(), command, of.parallel, skipped[of.name], func(finding Finding) bool { return expected(of.name, finding) })
			if !assert.NoError(t, err, of.name) {
				return
			}
			for _, finding := range report.Findings {
				assert.True(t, expected(of.name, finding), "%s: %s (%s): %s: %s: %s",
					of.name, finding.ID, finding.Clause, finding.State, finding.Scenario, finding.Detail)
			}
			t.Logf("%s: %d rules kept, %d not; %.0f s", of.name, report.Kept, len(report.Findings)-report.Kept, report.Seconds)
		})
	}
	players.Wait()
}

// expected tells whether a finding is what the table says.
func expected(client string, finding Finding) bool {
	for _, but := range exceptions {
		if but.client == client && but.rule == finding.ID {
			return finding.State == but.state
		}
	}
	return finding.State == Kept
}

// runTwice plays all scenarios, and those once more in which something was not as
// expected.
func runTwice(ctx context.Context, command string, parallel int, skip []string, expected func(Finding) bool) (Report, error) {
	start, err := Command(command)
	if err != nil {
		return Report{}, err
	}
	some := slices.DeleteFunc(Scenarios(), func(name string) bool { return slices.Contains(skip, name) })
	report, err := Run(ctx, Config{Start: start, Scenarios: some, Parallel: parallel})
	if err != nil {
		return Report{}, err
	}
	var again []string
	for _, finding := range report.Findings {
		if !expected(finding) && !slices.Contains(again, finding.Scenario) && slices.Contains(Scenarios(), finding.Scenario) {
			again = append(again, finding.Scenario)
		}
	}
	if len(again) == 0 {
		return report, nil
	}
	second, err := Run(ctx, Config{Start: start, Scenarios: again, Parallel: backoffPrograms})
	if err != nil {
		return Report{}, err
	}
	for i, finding := range report.Findings {
		if !expected(finding) {
			report.Findings[i] = second.Finding(finding.ID)
		}
	}
	return NewReport(report.Findings, 0), nil
}

// TestClientsDocument compares the table of docs/CLIENTS.md with what TestClients
// sees to; with UPDATE_DOCS=1 it writes it.
func TestClientsDocument(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(clientsDoc)
	require.NoError(t, err)
	section := regexp.MustCompile(`(?s)(<!-- clients: written by TestClients -->\n)(.*)(<!-- /clients -->)`)
	found := section.FindSubmatchIndex(text)
	require.NotNil(t, found, "no section for the table")
	want := clientsTable()
	if os.Getenv("UPDATE_DOCS") != "" {
		updated := string(text[:found[3]]) + want + string(text[found[6]:])
		require.NoError(t, os.WriteFile(clientsDoc, []byte(updated), 0o644))
		return
	}
	require.Equal(t, want, string(text[found[4]:found[5]]), "docs/CLIENTS.md is not up to date: run UPDATE_DOCS=1 go test -run ClientsDocument ./cmd/internal/conform")
}

func clientsTable() string {
	var table strings.Builder
	table.WriteString("\n| rule | clause | a device …")
	for _, of := range programs {
		fmt.Fprintf(&table, " | [%s](../%s)", of.name, of.source)
	}
	table.WriteString(" |\n|---|---|---" + strings.Repeat("|---", len(programs)) + "|\n")
	var notes []string
	for _, rule := range rules {
		text := rule.Text
		if rule.Should {
			text += " (SHOULD)"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s", rule.ID, rule.Clause, text)
		for _, of := range programs {
			cell := "kept"
			for _, but := range exceptions {
				if but.client != of.name || but.rule != rule.ID {
					continue
				}
				at := slices.Index(notes, but.why)
				if at < 0 {
					at = len(notes)
					notes = append(notes, but.why)
				}
				cell = fmt.Sprintf("**%s** (%d)", but.state, at+1)
			}
			table.WriteString(" | " + cell)
		}
		table.WriteString(" |\n")
	}
	table.WriteString("\n")
	for i, note := range notes {
		fmt.Fprintf(&table, "%d. %s\n", i+1, note)
	}
	return table.String()
}
