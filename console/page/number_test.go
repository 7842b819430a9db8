package page

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A reading is written so that a person takes it in: the prefix of a large one stands
// at its unit, if that takes one.
func TestReadingsAndTheirUnits(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("node is not installed; CI must have it")
		}
		t.Skip("node is not installed")
	}
	cases := []struct {
		number float64
		unit   string
		want   string
	}{
		{22_937_194_496, "B", "22.94 GB"},
		{9_999_999, "B", "9,999,999 B"},
		{-1.5e7, "W", "-15 MW"},
		{3.25e12, "B/s", "3.250 TB/s"},
		{1450.4, "W", "1,450 W"},
		{48.25, "%", "48.25 %"},
		{100, "%", "100 %"},
		{12_345_678, "%", "12,345,678 %"},
		{-3.14159, "°C", "-3.142 °C"},
		{21.5, "°C", "21.50 °C"},
		{2.5e9, "°C", "2.50e+9 °C"},
		{0.25, "m/s", "0.250 m/s"},
		{3e8, "m/s", "300,000,000 m/s"},
		{2.5e7, "kB", "25,000,000 kB"},
		{0.00025, "V", "2.50e-4 V"},
		{90, "°", "90°"},
		{22_937_194_496, "", "22.94 G"},
		{0, "bar", "0 bar"},
		{1e21, "B", "1.00e+21 B"},
	}
	asked := make([][2]any, len(cases))
	for i, c := range cases {
		asked[i] = [2]any{c.number, c.unit}
	}
	numbers, err := json.Marshal(asked)
	require.NoError(t, err)
	script := string(load()["/page/number.js"].content) + "\nconsole.log(JSON.stringify(" + string(numbers) + ".map(([number, unit]) => quantity(number, unit))))\n"
	command := exec.CommandContext(t.Context(), node, "--input-type=module", "-")
	command.Stdin = strings.NewReader(script)
	answer, err := command.Output()
	require.NoError(t, err)
	var got []string
	require.NoError(t, json.Unmarshal(answer, &got), string(answer))
	for i, c := range cases {
		require.Equal(t, c.want, got[i], "%v %s", c.number, c.unit)
	}
}
