package browser_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// patience bounds every wait for the browser to show something, which on a third
// of a core takes more than a minute to start.
const patience = 2 * time.Minute

// browserPath finds Chromium. A laptop without it is excused, a build server is
// not.
func browserPath(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const missing = "needs Chromium; install it with: apt-get install chromium"
	if os.Getenv("CI") == "true" {
		require.FailNow(t, missing)
	}
	t.Skip(missing)
	return ""
}

// browser is a Chromium that ends with the test.
type browser struct {
	*testing.T
	ctx context.Context
}

func startBrowser(t *testing.T) *browser {
	t.Helper()
	path := browserPath(t)
	//nolint:usetesting // Chromium's last writes may come while a test's folder is being removed
	profile, err := os.MkdirTemp("", "mooring-browser-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(profile) })
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true), // a container's may be small
		// Of its tabs one is in front; the timers of the others are to go on as they do there.
		chromedp.Flag("disable-background-timer-throttling", true), chromedp.Flag("disable-renderer-backgrounding", true),
		chromedp.Flag("disable-backgrounding-occluded-windows", true),
		chromedp.WSURLReadTimeout(patience),
	}
	allocator, release := chromedp.NewExecAllocator(t.Context(), options...)
	ctx, end := chromedp.NewContext(allocator)
	require.NoError(t, chromedp.Do(ctx), "start Chromium")
	t.Cleanup(func() {
		end()
		release()
	})
	return &browser{t, ctx}
}

// tab is one page, and what it complained of.
type tab struct {
	*testing.T
	ctx context.Context

	mu     sync.Mutex
	faults []string
}

// look says how a page is seen.
type look struct {
	width, height int64
	dark, phone   bool
}

var (
	desktop      = look{width: 1280, height: 900}
	desktopDark  = look{width: 1280, height: 900, dark: true}
	phone        = look{width: 390, height: 844, phone: true}
	phoneDark    = look{width: 390, height: 844, phone: true, dark: true}
	smallestTall = look{width: 320, height: 640, phone: true}
	tablet       = look{width: 768, height: 1024}
)

// open opens a tab.
func (b *browser) open(t *testing.T, url string, as look) *tab {
	t.Helper()
	tb := &tab{T: t}
	ctx, end := chromedp.NewContext(b.ctx, chromedp.WithListener(tb.hear))
	t.Cleanup(end)
	tb.ctx = ctx
	require.NoError(t, chromedp.Do(ctx), "open a tab") // its life is ctx's
	tb.run(as.set(), chromedp.Navigate(url))
	return tb
}

// hear takes down what the page complains of.
func (tb *tab) hear(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		words := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			words += " " + e.ExceptionDetails.Exception.Description
		}
		tb.fault("exception: " + words)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			words := make([]string, len(e.Args))
			for i, argument := range e.Args {
				words[i] = string(argument.Value)
			}
			tb.fault("console: " + strings.Join(words, " "))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			tb.fault("log: " + e.Entry.Text + " " + e.Entry.URL)
		}
	}
}

// set makes the tab look so.
func (as look) set() chromedp.Action[chromedp.Void] {
	scheme, scale := "light", 1.0
	if as.dark {
		scheme = "dark"
	}
	if as.phone {
		scale = 2
	}
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: as.width, Height: as.height, DeviceScaleFactor: scale, Mobile: as.phone,
		})
		if err != nil {
			return err
		}
		_, err = cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	})
}

func (tb *tab) fault(words string) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	tb.faults = append(tb.faults, words)
}

// complaints takes what the page complained of.
func (tb *tab) complaints() []string {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	faults := tb.faults
	tb.faults = nil
	return faults
}

// run does something in the tab.
func (tb *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		tb.picture("failed-" + strings.ReplaceAll(tb.Name(), "/", "-"))
		require.NoError(tb, err)
	}
}

// until waits for a JavaScript expression to be true.
func (tb *tab) until(expression string, args ...any) {
	tb.Helper()
	expression = fmt.Sprintf(expression, args...)
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	_, err := chromedp.Run(ctx, chromedp.Poll[bool]("!!("+expression+")", chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(0)))
	if err != nil {
		tb.picture("failed-" + strings.ReplaceAll(tb.Name(), "/", "-"))
		require.NoError(tb, err, "waiting for %s\ncomplaints: %q\npage: %s", expression, tb.complaints(), eval[string](tb, "document.body.innerText.slice(0, 3000)"))
	}
}

// says waits for the page to show a text, whatever its case.
func (tb *tab) says(text string) {
	tb.Helper()
	tb.until("document.body.innerText.toLowerCase().includes(%q)", strings.ToLower(text))
}

// eval asks for the value of a JavaScript expression.
func eval[T any](tb *tab, expression string) T {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	require.NoError(tb, err, expression)
	return value
}

// click clicks what a selector finds.
func (tb *tab) click(selector string) {
	tb.Helper()
	tb.run(chromedp.Click(chromedp.CSS(selector)))
}

// goTo shows another view.
func (tb *tab) goTo(hash string) {
	tb.Helper()
	eval[string](tb, fmt.Sprintf("location.hash = %q", hash))
}

// picture keeps what is to be seen.
func (tb *tab) picture(name string) {
	tb.Helper()
	const folder = "../../../.screens"
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.MkdirAll(folder, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, name+".png"), png, 0o644)
	}
	if err != nil {
		tb.Logf("no picture %s: %v", name, err)
	}
}

// requireFits checks that nothing has to be scrolled sideways: a phone would make
// the page as wide as its widest part.
func (tb *tab) requireFits(as look) {
	tb.Helper()
	at := eval[string](tb, "location.hash")
	require.LessOrEqual(tb, eval[int64](tb, "innerWidth"), as.width, "at %s", at)
	require.LessOrEqual(tb, eval[int64](tb, "document.documentElement.scrollWidth"), as.width, "at %s", at)
}

// requireNames checks that everything one can use has a name to be called by, and
// that headings and landmarks are there.
func (tb *tab) requireNames() {
	tb.Helper()
	nameless := eval[[]string](tb, `[...document.querySelectorAll("button, a, input, textarea, [tabindex='0']")].filter((e) => e.checkVisibility()).filter((e) =>
		!(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length)).map((e) => e.outerHTML.slice(0, 120))`)
	require.Empty(tb, nameless, "at %s", eval[string](tb, "location.hash"))
	require.Equal(tb, 1, eval[int](tb, `document.querySelectorAll("h1").length`))
	require.Equal(tb, 3, eval[int](tb, `document.querySelectorAll("header, main, nav#nav").length`))
}
