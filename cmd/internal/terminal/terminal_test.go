package terminal

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLiveRedrawsInPlace(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	live := NewLive(&out, time.Second)
	live.active = true

	live.Update([]string{"one", "two"}, "")
	require.Equal(t, hideCursor+"one\ntwo\n", out.String())

	out.Reset()
	live.Update([]string{"three"}, "")
	require.Equal(t, "\x1b[2A\r"+clearToEnd+"three\n", out.String(), "both lines are replaced")

	out.Reset()
	fmt.Fprintln(live, "a log line")
	require.Equal(t, "\x1b[1A\r"+clearToEnd+"a log line\nthree\n", out.String(), "above the block")

	out.Reset()
	live.Clear()
	require.Equal(t, "\x1b[1A\r"+clearToEnd+showCursor, out.String())
	out.Reset()
	live.Clear()
	live.Printf("%s", "after")
	require.Equal(t, "after\n", out.String())
}

func TestLivePlainLinesAreSpaced(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	live := NewLive(&out, 2*time.Second)
	require.False(t, live.Active(), "a buffer is no terminal")
	now := time.Unix(0, 0)
	live.now = func() time.Time { return now }
	for i := range 6 {
		live.Update([]string{"block"}, fmt.Sprint("line ", i))
		now = now.Add(time.Second)
	}
	live.Clear()
	require.Equal(t, "line 0\nline 2\nline 4\n", out.String())
}

func TestCut(t *testing.T) {
	t.Parallel()
	require.Equal(t, "abc", cut("abc", 3))
	require.Equal(t, "abc"+styleNormal, cut("abcd", 3))
	require.Equal(t, styleBold+"äöü", cut(styleBold+"äöü", 3), "neither bytes nor sequences count")
	require.Equal(t, styleBold+"ab"+styleNormal, cut(styleBold+"abc", 2))
}

func TestTable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	Table(&out, []string{"device", "rows"}, [][]string{{"sim-0001", "12"}, {"host", "1,234"}})
	lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	require.Len(t, lines, 4)
	require.Equal(t, " device     rows ", lines[0], "the names are left as they are, numbers go right")
	require.Equal(t, " sim-0001     12 ", lines[2])
	require.Equal(t, " host      1,234 ", lines[3])
}
