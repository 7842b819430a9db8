package page

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPresenceWhileDevicesAreRead: what was told of a device while the list was read
// is not taken back by the list, however long that took; a list that was asked for
// later counts.
func TestPresenceWhileDevicesAreRead(t *testing.T) {
	t.Parallel()
	text := strings.NewReplacer(`import { get, query } from "./api.js";`, "", `import { live } from "./live.js";`, `
		let clock = 1e12, answer;
		Date.now = () => clock;
		globalThis.requestAnimationFrame = () => 1;
		const live = Object.assign(new EventTarget(), { state: "live" });
		const query = () => "", get = () => new Promise((go) => { answer = (state) => go([{ name: "a", state }]); });
	`).Replace(module("store.js"))
	got := script[[]string](t, text+`
		const states = [];
		const read = async (during, state) => {
			const reading = store.refresh();
			during();
			answer(state);
			await reading;
			states.push(store.get("a").state);
		};
		const online = () => {
			live.dispatchEvent(new CustomEvent("presence", { detail: { device: "a", online: true, since: "2026-01-01T00:00:00Z" } }));
			clock += 60_000;
		};
		await read(() => {}, "offline");
		await read(online, "offline");
		await read(() => { clock += 1000; }, "offline");
		online();
		clock -= 59_000;
		await read(() => {}, "disabled");
		store.clear();
		console.log(JSON.stringify(states));`)
	require.Equal(t, []string{"offline", "online", "offline", "disabled"}, got)
}

// TestResyncWhileDevicesAreRead: what is told to be read again is, though a list is being
// read: it was asked for before.
func TestResyncWhileDevicesAreRead(t *testing.T) {
	t.Parallel()
	text := strings.NewReplacer(`import { get, query } from "./api.js";`, "", `import { live } from "./live.js";`, `
		const answers = [];
		globalThis.requestAnimationFrame = () => 1;
		const live = Object.assign(new EventTarget(), { state: "live" });
		const query = () => "", get = () => new Promise((go) => answers.push((state) => go([{ name: "a", state }])));
	`).Replace(module("store.js"))
	got := script[[]string](t, text+`
		const states = [];
		const settled = () => new Promise((go) => setTimeout(go, 20));
		store.refresh();
		live.dispatchEvent(new CustomEvent("resync"));
		answers.shift()("online");
		await settled();
		answers.shift()?.("offline");
		await settled();
		states.push(store.get("a").state, String(answers.length));
		store.refresh();
		answers.shift()?.("online");
		await settled();
		states.push(store.get("a").state, String(answers.length));
		store.clear();
		console.log(JSON.stringify(states));
		process.exit(0);`)
	require.Equal(t, []string{"offline", "0", "online", "0"}, got)
}
