//go:build linux

package examples

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
)

// viewerToken adds a user who may look.
func viewerToken(t *testing.T, stage *faults.Stage) string {
	t.Helper()
	token, err := exec.Command(stage.Program("mooring"), "user", "add", "ann", "--role", "viewer", "--database-url", stage.DatabaseURL).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(token))
}

// sender starts a device that sends ten rows a second.
func sender(t *testing.T, stage *faults.Stage, prefix string) (name string) {
	t.Helper()
	name, token := added(t, stage, prefix)
	start(t, append(devices[1].line(t), stage.Server.StreamURL(), token, "0.1")...)
	return name
}

// prints waits until a program has printed something that fits, behind the
// first from bytes of its output, and gives the output's length then.
func (p *program) prints(t *testing.T, pattern string, from int) int {
	t.Helper()
	expression := regexp.MustCompile(pattern)
	require.Eventually(t, func() bool { return expression.MatchString(p.output.String()[from:]) }, patience, 50*time.Millisecond, "never printed: %s", pattern)
	return len(p.output.String())
}

func liveURL(stage *faults.Stage, scheme string) string {
	return scheme + "://" + stage.Server.Addr() + "/v1/live"
}

// A viewer shows what it is asked for, and goes on after the server was killed.
func TestPythonViewer(t *testing.T) {
	t.Parallel()
	interpreter := python(t, "websockets")
	stage := faults.Start(t, faults.Options{Expect: "the viewer shows readings, also after a restart"})
	name, other := sender(t, stage, "seen-"), sender(t, stage, "other-")
	viewer := start(t, interpreter, "-Bu", "python/viewer.py", liveURL(stage, "ws"), viewerToken(t, stage), name)
	reading := `(?m)^20\S+ ` + name + ` cpu [0-9.e-]+ s$` // with its unit, which the snapshot alone tells
	seen := viewer.prints(t, reading, 0)
	seen = viewer.prints(t, reading, seen)
	stage.Server.Kill()
	stage.Server.Start()
	seen = viewer.prints(t, `# .*online`, seen)
	viewer.prints(t, reading, seen)
	require.NotContains(t, viewer.output.String(), other)

	refused := start(t, interpreter, "-Bu", "python/viewer.py", liveURL(stage, "ws"), "mru_nonsense")
	<-refused.over
	require.Error(t, refused.err)
	require.Contains(t, refused.output.String(), "401")
}

// The README's line for the shell shows readings.
func TestShellViewer(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		missing(t, "curl")
	}
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	line := regexp.MustCompile("(?s)```sh\n(curl .*?)\n```").FindSubmatch(readme)
	require.NotNil(t, line)
	stage := faults.Start(t, faults.Options{Expect: "curl shows readings"})
	name := sender(t, stage, "seen-")
	command := strings.NewReplacer("http://localhost:8080/v1/live", liveURL(stage, "http"), "$TOKEN", viewerToken(t, stage)).Replace(string(line[1]))
	viewer := start(t, "/bin/sh", "-c", "exec "+command)
	viewer.prints(t, `data: ?\{"type":"readings".*"`+name+`"`, 0)
}
