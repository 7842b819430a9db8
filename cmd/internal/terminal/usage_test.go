package terminal_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/cmd/internal/terminal"
)

func TestHabits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ typed, means []string }{
		{nil, []string{"--help"}},
		{[]string{"help"}, []string{"--help"}},
		{[]string{"help", "device", "add"}, []string{"device", "add", "--help"}},
		{[]string{"--version"}, []string{"version"}},
		{[]string{"device", "add", "help"}, []string{"device", "add", "help"}},
		{[]string{"serve", "--listen", ":1"}, []string{"serve", "--listen", ":1"}},
	} {
		require.Equal(t, c.means, terminal.Habits(c.typed), "%v", c.typed)
	}
}
