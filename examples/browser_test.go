//go:build linux

package examples

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
	"mooring/internal/faults/proxy"
)

// page is a tab of a Chromium of its own.
type page struct {
	ctx context.Context
	end func() // ends Chromium; may be called again
}

func openPage(t *testing.T, url string) page {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		missing(t, "chromium")
	}
	//nolint:usetesting // Chromium's last writes may come while a test's folder is being removed
	profile, err := os.MkdirTemp("", "mooring-examples-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(profile) })
	allocator, release := chromedp.NewExecAllocator(t.Context(),
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-background-networking", true),
		// A page that Chromium takes for hidden would get a timer's tick a second, and later one a minute.
		chromedp.Flag("disable-background-timer-throttling", true), chromedp.Flag("disable-renderer-backgrounding", true),
		chromedp.Flag("disable-backgrounding-occluded-windows", true),
		chromedp.WSURLReadTimeout(patience))
	ctx, end := chromedp.NewContext(allocator)
	p := page{ctx, func() {
		end()
		release()
	}}
	t.Cleanup(p.end)
	require.NoError(t, chromedp.Do(ctx), "start Chromium")
	p.show(t, url)
	return p
}

func (p page) show(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(url)))
}

// until waits for a JavaScript expression to be true.
func (p page) until(t *testing.T, expression string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	_, err := chromedp.Run(ctx, chromedp.Poll[bool]("!!("+expression+")", chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(0)))
	require.NoError(t, err, "waiting for %s; the page says: %s", expression, p.text(t, "body"))
}

func (p page) text(t *testing.T, selector string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](fmt.Sprintf("document.querySelector(%q).innerText", selector)))
	require.NoError(t, err)
	return text
}

// pages serves the pages of javascript/browser before a server; the address is
// like http://localhost:1234/browser/.
func pages(t *testing.T, server string) string {
	t.Helper()
	serving := start(t, node(t), "javascript/serve.mjs", "http://"+server, "0")
	serving.prints(t, `browser/viewer`, 0)
	return regexp.MustCompile(`http://\S+/browser/`).FindString(serving.output.String())
}

// A page is a device: it loses no row to broken lines.
func TestBrowserDevice(t *testing.T) {
	t.Parallel()
	stage := faults.Start(t, faults.Options{Expect: "a device in the browser loses nothing and stores nothing twice"})
	link := breaking(t, stage, // in the middle of a frame of the device, then before an ACK
		proxy.Plan{Action: proxy.Reset, Direction: proxy.Up, At: proxy.Point{Part: 9, Offset: proxy.Half}},
		proxy.Plan{Action: proxy.Reset, Direction: proxy.Down, At: proxy.Point{Part: 5, Offset: proxy.Half}})
	name, token := added(t, stage, "browser-")
	p := openPage(t, pages(t, link.Addr())+"device.html#seconds=0.05&token="+token)
	p.until(t, `document.querySelector("#rows").innerText.includes("measured")`) // its modules came
	require.Eventually(t, func() bool { return broken(link) == 2 }, patience, 50*time.Millisecond, "its line is broken twice")
	before := stored(t, stage, name)
	require.Eventually(t, func() bool { return stored(t, stage, name) > before+20 }, patience, 100*time.Millisecond)

	said := regexp.MustCompile(`settled (\d+), refused 0, given up 0`).FindStringSubmatch(p.text(t, "#rows"))
	require.NotNil(t, said, p.text(t, "body"))
	settled, err := strconv.Atoi(said[1])
	require.NoError(t, err)
	p.end() // another page in its place might leave it alive, to be gone back to
	require.Eventually(t, func() bool {
		return ask(t, stage, "SELECT online FROM device_status WHERE device = '"+name+"'")[0] == "f"
	}, patience, 100*time.Millisecond)
	row := ask(t, stage, `SELECT count(*), count(DISTINCT seq), min(seq), max(seq) + 1, count(DISTINCT ts)
		FROM samples s JOIN devices d ON d.id = s.device_id WHERE d.name = '`+name+`'`)
	require.Equal(t, []string{row[0], row[0], "0", row[0], row[0]}, row)
	count, err := strconv.Atoi(row[0])
	require.NoError(t, err)
	require.GreaterOrEqual(t, count, settled)
}

// A page shows readings, and goes on after the server was killed; with a token
// that is wrong it says so.
func TestBrowserViewer(t *testing.T) {
	t.Parallel()
	stage := faults.Start(t, faults.Options{Expect: "a page shows readings, also after a restart"})
	name := sender(t, stage, "seen-")
	address := pages(t, stage.Server.Addr()) + "viewer.html#token="
	p := openPage(t, address+viewerToken(t, stage))
	shows := `[...document.querySelectorAll("tbody tr")].some((row) => row.cells[0].textContent === "` + name + `" && row.cells[1].textContent === "cpu" && row.cells[3].textContent === "s" && row.cells[2].textContent !== value)`
	p.until(t, `(value => `+shows+`)("")`)
	stage.Server.Kill()
	stage.Server.Start()
	p.until(t, `document.querySelector("#state").textContent === "live"`)
	value := p.text(t, "tbody tr:nth-child(2) td:nth-child(3)")
	p.until(t, `(value => `+shows+`)("`+value+`")`)

	p.show(t, "about:blank")
	p.show(t, address+"mru_nonsense")
	p.until(t, `document.querySelector("#state").textContent.includes("401")`)
}
