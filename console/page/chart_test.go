package page

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// script runs modules of the page in Node and decodes what the last line prints.
func script[T any](t *testing.T, text string, env ...string) (got T) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("node is not installed; CI must have it")
		}
		t.Skip("node is not installed")
	}
	command := exec.CommandContext(t.Context(), node, "--max-old-space-size=256", "--input-type=module", "-")
	command.Env = append(os.Environ(), env...)
	command.Stdin = strings.NewReader(text)
	answer, err := command.Output()
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(answer, &got), string(answer))
	return got
}

func module(name string) string { return string(load()["/page/"+name].content) }

// TestAxesOfAnyValues: whatever a device measures, the axis ends: values that differ
// in their last bit made marks without end, and the page stood still.
func TestAxesOfAnyValues(t *testing.T) {
	t.Parallel()
	const pairs = `[[0.3, 0.30000000000000004], [21.5, 21.500000000000004], [1e16, 1e16 + 2], [1.79e18, 1.79e18 + 256], [-1e300, -1e300],
		[-1.7e308, 1.7e308], [1.7e308, 1.7e308], [0, 5e-324], [5e-324, 5e-324], [0, 0], [-0, 0], [1, 2], [20, 22.5]]`
	got := script[[]struct {
		Low, High float64
		Marks     int
		Text      []string
	}](t, module("number.js")+"\nconsole.log(JSON.stringify("+pairs+`.map(([least, most]) => {
		const { low, high } = axis(least, most);
		const marks = ticks(low, high, 4);
		return { low, high, marks: marks.list.length, text: marks.list.map(marks.text) };
	})))`)
	require.Len(t, got, 13)
	for i, axis := range got {
		require.Less(t, axis.Low, axis.High, i)
		require.LessOrEqual(t, axis.Marks, 12, i)
		require.NotEmpty(t, axis.Text, i)
		require.NotContains(t, strings.Join(axis.Text, " "), "NaN")
	}
	require.Equal(t, []string{"1.0", "1.5", "2.0"}, got[11].Text)
	require.Equal(t, []string{"0", "0"}, script[[]string](t, module("number.js")+"\nconsole.log(JSON.stringify([value(-0), value(0)]))"))
}

// TestSparksOfAnyValues: a line is drawn of any numbers.
func TestSparksOfAnyValues(t *testing.T) {
	t.Parallel()
	text := strings.Replace(module("spark.js"), `import { h } from "./dom.js";`, "", 1)
	got := script[[]string](t, text+`
		console.log(JSON.stringify([[1e300, 1e300], [-1.7e308, 1.7e308], [1e17, 1e17, 1e17], [1, null, 2], [5e-324, 0]].map((values) => {
			let path = "";
			draw({ firstChild: { setAttribute: (_, d) => { path = d; } } }, values);
			return path;
		})))`)
	for _, path := range got {
		require.NotEmpty(t, path)
		require.NotContains(t, path, "NaN")
		require.NotContains(t, path, "Infinity")
	}
}

// TestTimesOfAnyDay: the hour after midnight is 00, and a day is a day also when the
// clocks change.
func TestTimesOfAnyDay(t *testing.T) {
	t.Parallel()
	text := strings.Replace(module("time.js"), `import { setText } from "./dom.js";`,
		"globalThis.HTMLElement = class {}; globalThis.customElements = { define() {} }; globalThis.setInterval = () => {};", 1)
	got := script[[]string](t, text+`
		console.log(JSON.stringify([clockOf(new Date(2026, 2, 30, 0, 5, 7)), fullTime(new Date(2026, 2, 30, 0, 5, 7)),
			...[0, 1, 2, 3].map((back) => dateOf(daysBefore(new Date(2026, 2, 31, 0, 30), back)))]))`, "TZ=Europe/Oslo", "LC_ALL=en_US.UTF-8")
	require.Equal(t, "00:05:07", got[0])
	require.Contains(t, got[1], "00:05:07")
	require.Equal(t, []string{"2026-03-31", "2026-03-30", "2026-03-29", "2026-03-28"}, got[2:])
}
