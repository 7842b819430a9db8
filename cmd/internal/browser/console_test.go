package browser_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// TestConsole is a person's first quarter of an hour with the console.
func TestConsole(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	s := newStage(t)
	tokens := s.add("boiler-", "boiler", 8, map[string]string{"site": "oslo"})
	s.add("pump-", "pump", 2, nil)

	// The link logs in, once, and is gone from the address.
	link := s.link()
	tb := b.open(t, link, desktop)
	tb.says("Overview")
	tb.until(`document.body.dataset.state === "live"`)
	require.NotContains(t, eval[string](tb, "location.href"), "login")
	tb.until(`document.querySelector(".card .small").textContent === "of 10 devices"`)

	// Devices come online before one's eyes.
	tb.goTo("#/devices")
	tb.until(`document.querySelectorAll(".device-row").length >= 10`)
	tb.until(`document.querySelectorAll('.device-row .mark[data-state="online"]').length === 0`)
	boilers := make([]*boiler, 8)
	for i := range boilers {
		name := fmt.Sprintf("boiler-%d", i+1)
		boilers[i] = s.boiler(name, tokens[name], float64(i))
	}
	tb.until(`document.querySelectorAll('.device-row .mark[data-state="online"]').length === 8`)
	tb.until(`document.querySelectorAll(".device-row .line:not(.vacant) .spark path[d^=M]").length >= 16`)
	tb.picture("devices-desktop-light")

	// Search, and the keyboard.
	tb.run(chromedp.SendKeys(chromedp.CSS("#search"), "boiler-3"))
	tb.until(`document.querySelectorAll(".row-place:not([hidden])").length === 1`)
	tb.run(chromedp.SendKeys(chromedp.CSS("#search"), kb.ArrowDown))
	tb.until(`document.activeElement.classList.contains("device-row")`)
	tb.run(chromedp.KeyEvent(kb.Enter))
	tb.until(`document.querySelector("h1 .name")?.textContent === "boiler-3"`)
	require.Equal(t, "H1", eval[string](tb, "document.activeElement.tagName"), "focus goes where one went")

	// A chart moves.
	tb.until(`document.querySelectorAll("line-chart").length === 4`)
	const ink = `document.querySelector("line-chart canvas").toDataURL()`
	tb.until(`!document.querySelector(".readings [role=status]").textContent.includes("Reading")`)
	before, value := eval[string](tb, ink), eval[string](tb, `document.querySelector(".channel .value").textContent`)
	tb.until(`%s !== %q`, ink, before)
	tb.until(`document.querySelector(".channel .value").textContent !== %q`, value)

	// A command and its result.
	tb.run(chromedp.SendKeys(chromedp.CSS("#command"), "identify"))
	tb.click(".command-form button")
	tb.until(`document.querySelector(".commands .chip")?.textContent === "done"`)
	require.Equal(t, "blink", eval[string](tb, `document.querySelector(".commands .answer").textContent`))
	tb.until(`document.querySelector("#said").textContent.includes("identify: done")`)
	tb.run(chromedp.SendKeys(chromedp.CSS("#args"), "{"))
	tb.run(chromedp.SetValue(chromedp.CSS("#command"), "identify"))
	tb.click(".command-form button")
	tb.says("The arguments are no JSON")
	tb.picture("device-desktop-light")
	require.Empty(t, tb.complaints())

	// A closer look, and back to what is live.
	tb.until(`document.querySelector(".readings [role=status]").textContent.includes("as it comes")`)
	tb.run(chromedp.Focus(chromedp.CSS("line-chart .plot")), chromedp.KeyEvent("+"))
	tb.until(`/ to .*, a point for 1 s/.test(document.querySelector(".readings [role=status]").textContent)`)
	tb.click(`.readings [data-live]`)
	tb.until(`document.querySelector(".readings [role=status]").textContent.includes("as it comes")`)
	tb.click(`.readings [data-seconds="3600"]`)
	tb.until(`/The last 60 min, as it comes/.test(document.querySelector(".readings [role=status]").textContent)`)
	require.Equal(t, "true", eval[string](tb, `document.querySelector(".readings [data-seconds='3600']").getAttribute("aria-pressed")`))
	tb.click(`.readings [data-seconds="300"]`)
	tb.until(`document.querySelector(".readings [data-seconds='300']").getAttribute("aria-pressed") === "true"`)
	tb.until(`document.querySelector(".readings [role=status]").textContent.includes("as it comes")`)

	// Without its server the page says so, what was shown grows old before one's
	// eyes, and it comes back by itself.
	tb.until(`navigator.serviceWorker.controller`)
	s.stop()
	tb.until(`document.body.dataset.state === "lost"`)
	tb.says("No connection to the server")
	require.True(t, eval[bool](tb, `Date.real = Date.now, Date.now = () => Date.real() + 600_000, true`))
	tb.until(`document.querySelector(".channel").dataset.aged === "old"`)
	tb.picture("device-desktop-lost")
	// The page itself opens without its server, too.
	tb.run(chromedp.Reload())
	tb.says("The server can't be reached")
	require.NotZero(t, eval[int](tb, `document.querySelector("header").offsetHeight`))
	s.start()
	tb.until(`document.body.dataset.state === "live"`)
	tb.until(`document.querySelector("#lost").hidden`)
	tb.until(`document.querySelector(".state-word").textContent === "online"`)
	tb.until(`document.querySelector(".channel .value") !== null`)
	value = eval[string](tb, `document.querySelector(".channel .value").textContent`)
	tb.until(`document.querySelector(".channel .value").textContent !== %q`, value)
	tb.complaints() // of requests that failed

	// A device that goes is away.
	boilers[4].off()
	tb.goTo("#/")
	tb.until(`[...document.querySelectorAll(".away a")].some((a) => a.textContent === "boiler-5")`)
	tb.picture("overview-desktop-light")
	require.Empty(t, tb.complaints())

	// The link is used up.
	tb.click("#logout")
	tb.says("Your token")
	again := b.open(t, link, phone)
	again.says("used already")
	again.picture("login-phone-light")
	again.run(chromedp.SendKeys(chromedp.CSS("#token"), s.token+kb.Enter))
	again.says("Overview")

	// Who logs out of a server that is away is told that the session goes on.
	again.until(`document.body.dataset.state === "live"`)
	s.stop()
	again.click("#logout")
	again.says("You are still logged in")
}

// TestLooks shows every view on a phone and in the dark.
func TestLooks(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	s := newStage(t)
	tokens := s.add("boiler-", "boiler", 4, map[string]string{"site": "oslo"})
	for i := range 3 {
		name := fmt.Sprintf("boiler-%d", i+1)
		s.boiler(name, tokens[name], float64(i))
	}
	tb := b.open(t, s.link(), phone)
	tb.until(`document.body.dataset.state === "live"`)
	require.True(t, eval[bool](tb, `globalThis.shifted = 0, globalThis.jumps = [], new PerformanceObserver((list) => {
		for (const e of list.getEntries()) if (!e.hadRecentInput) {
			shifted += e.value
			jumps.push(location.hash + " at " + innerWidth + ": " + e.value.toFixed(3) + " " + e.sources.map((s) => s.node?.className ?? s.node?.nodeName).join(", "))
		}
	}).observe({ type: "layout-shift" }), true`))
	for name, as := range map[string]look{"phone-light": phone, "phone-dark": phoneDark, "desktop-dark": desktopDark, "narrow": smallestTall} {
		tb.run(as.set())
		for view, hash := range map[string]string{"overview": "#/", "devices": "#/devices", "device": "#/devices/boiler-1", "sql": "#/sql"} {
			tb.goTo(hash)
			switch view {
			case "devices":
				tb.until(`document.querySelectorAll(".device-row .line:not(.vacant) .spark path[d^=M]").length >= 3`)
			case "device":
				tb.until(`document.querySelectorAll(".channel .value").length >= 5 && document.querySelector(".state-word").textContent === "online"`)
				tb.until(`!document.querySelector(".readings [role=status]").textContent.includes("Reading")`)
			case "overview":
				tb.until(`document.querySelector(".card .number").textContent === "3"`)
			}
			tb.requireFits(as)
			tb.requireNames()
			tb.picture(view + "-" + name)
		}
		require.Equal(t, as.dark, eval[bool](tb, `matchMedia("(prefers-color-scheme: dark)").matches`))
	}
	// A phone names the channels of the list, no card stands alone in its row, and a
	// device that sent nothing says so.
	tb.run(phone.set())
	tb.goTo("#/devices")
	tb.until(`document.querySelector(".device-row .line:not(.vacant) .metric")?.getClientRects().length > 0`)
	tb.run(tablet.set())
	tb.goTo("#/")
	tb.until(`document.querySelectorAll(".card").length === 5`)
	require.Equal(t, []int{2, 3}, eval[[]int](tb, `Object.values(Object.groupBy(document.querySelectorAll(".card"), (e) => Math.round(e.getBoundingClientRect().top))).map((row) => row.length)`))
	tb.picture("overview-tablet")
	tb.goTo("#/devices/boiler-4")
	tb.until(`document.querySelector(".readings [role=status]")?.textContent === "It has not sent anything yet."`)
	// What is long is broken, not the page; and of what there isn't, little is said.
	long := strings.Repeat("x", 60)
	s.add(long, long, 1, map[string]string{long: long})
	tb.run(phone.set())
	tb.goTo("#/devices/" + long + "1")
	tb.until(`document.querySelector(".readings [role=status]")?.textContent === "It has not sent anything yet."`)
	tb.until(`document.querySelector(".about-line").textContent.includes("xxx=xxx")`)
	tb.requireFits(phone)
	require.Empty(t, tb.complaints())
	// What it measured last is not out of reach because it was long ago.
	const toNewest = `document.querySelector(".readings > button")`
	s.sendsOnce(tokens["boiler-4"], time.Now().Add(-30*24*time.Hour))
	tb.goTo("#/devices/boiler-4")
	tb.until(toNewest + ` && !` + toNewest + `.hidden`)
	tb.click(".readings > button")
	tb.until(`document.querySelector("line-chart .plot").getAttribute("aria-label")?.includes("last 7")`)
	tb.until(toNewest + `.hidden`)
	tb.goTo("#/devices/boiler-1")
	tb.until(`document.querySelectorAll(".channel .value").length >= 5`)
	require.True(t, eval[bool](tb, toNewest+`.hidden`))
	require.Empty(t, tb.complaints())
	tb.goTo("#/devices/nobody")
	tb.says("no such device: nobody")
	tb.until(`performance.getEntriesByName(new URL("/api/v1/devices/nobody/rejects?limit=20", location), "resource").length > 0`)
	require.Zero(t, eval[int](tb, `document.querySelectorAll("main .panel").length`))
	// Its 404s are told by and by; nothing else is complained of.
	absent := regexp.MustCompile(`status of 404 .*/api/v1/(devices/nobody|commands\?.*device=nobody)`)
	tb.run(desktop.set())
	light := eval[string](tb, `getComputedStyle(document.body).backgroundColor`)
	tb.run(desktopDark.set())
	require.Less(t, eval[float64](tb, "shifted"), 0.1, "%q", eval[[]string](tb, "jumps"))
	require.NotEqual(t, light, eval[string](tb, `getComputedStyle(document.body).backgroundColor`))
	for _, complaint := range tb.complaints() {
		require.Regexp(t, absent, complaint)
	}
}

// TestManyDevices reports how soon ten thousand devices are to be seen.
func TestManyDevices(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	s := newStage(t)
	const many = 10_000
	s.add("sensor-", "sensor", many, map[string]string{"site": "oslo"})
	tb := b.open(t, s.link(), desktop)
	tb.until(`document.body.dataset.state === "live"`)

	// Again, as somebody who is logged in: the whole way from nothing.
	begun := time.Now()
	tb.run(chromedp.Navigate("about:blank"), chromedp.Navigate(s.url()+"/#/devices"))
	tb.until(`document.querySelectorAll(".device-row").length > 5`)
	first := eval[float64](tb, `performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? -1`)
	rows := eval[float64](tb, `performance.now()`)
	tb.until(`document.body.innerText.includes("10,000 devices")`)
	t.Logf("%d devices: first paint after %.0f ms, rows seen before %.0f ms, all read before %.0f ms; %.0f ms by the test's clock",
		many, first, rows, eval[float64](tb, `performance.now()`), time.Since(begun).Seconds()*1e3)

	require.Less(t, eval[int](tb, `document.querySelectorAll(".device-row").length`), 60, "only what is in sight exists")
	eval[bool](tb, `scrollTo(0, document.body.scrollHeight), true`)
	tb.until(`[...document.querySelectorAll(".row-place:not([hidden]) .name")].some((e) => e.textContent === "sensor-10000")`)
	tb.picture("devices-many-end")
	tb.run(chromedp.SendKeys(chromedp.CSS("#search"), "sensor-077"))
	tb.says("100 of 10,000 devices")
	require.Empty(t, tb.complaints())
}

// TestWithoutWebSockets: behind a proxy that lets none through the page asks the
// API for what it would be told.
func TestWithoutWebSockets(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	s := newStage(t)
	tokens := s.add("boiler-", "boiler", 2, nil)
	tb := b.open(t, "about:blank", desktop)
	tb.run(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
			Source: `globalThis.WebSocket = class { constructor() { setTimeout(() => this.onclose?.(), 10) } send() {} close() {} }`,
		})
		return err
	}), chromedp.Navigate(s.link()))
	tb.until(`document.body.dataset.state === "live"`)
	tb.goTo("#/devices/boiler-1")
	tb.until(`document.querySelector(".state-word").textContent === "offline"`)
	s.boiler("boiler-1", tokens["boiler-1"], 0)
	tb.until(`document.querySelectorAll(".channel").length === 5`)
	value := eval[string](tb, `document.querySelector(".channel .value").textContent`)
	tb.until(`document.querySelector(".channel .value").textContent !== %q`, value)
	tb.run(chromedp.SendKeys(chromedp.CSS("#command"), "identify"+kb.Enter))
	tb.until(`document.querySelector(".commands .chip")?.textContent === "done"`)
	tb.goTo("#/devices")
	tb.until(`document.querySelectorAll('.device-row .mark[data-state="online"]').length === 1`)
	s.stop()
	tb.until(`document.body.dataset.state === "lost"`)
	s.start()
	tb.until(`document.body.dataset.state === "live"`)
}
