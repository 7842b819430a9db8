package terminal

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// The few control sequences that redrawing needs; every terminal since the
// VT100 knows them.
const (
	cursorUp    = "\x1b[%dA"
	clearToEnd  = "\x1b[J"
	hideCursor  = "\x1b[?25l"
	showCursor  = "\x1b[?25h"
	styleBold   = "\x1b[1m"
	styleDim    = "\x1b[2m"
	styleGreen  = "\x1b[32m"
	styleRed    = "\x1b[31m"
	styleNormal = "\x1b[0m"
)

// defaultWidth is the width assumed when the terminal does not tell.
const defaultWidth = 80

// IsTerminal tells whether w is a terminal that understands control sequences,
// or a Live on one.
func IsTerminal(w io.Writer) bool {
	if live, ok := w.(*Live); ok {
		return live.active
	}
	file, ok := w.(*os.File)
	return ok && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(file.Fd()))
}

// Width is the number of columns of w, or 80 if it is no terminal.
func Width(w io.Writer) int {
	if file, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return defaultWidth
}

// Live is a block of lines at the end of the output, redrawn in place.
type Live struct {
	mu     sync.Mutex
	out    io.Writer
	active bool
	every  time.Duration
	now    func() time.Time

	last  time.Time // when a plain line was written
	drawn int       // lines of the block on the screen
	block []string
}

// NewLive writes to out. Where out is no terminal, at most one plain line per
// interval every is written.
func NewLive(out io.Writer, every time.Duration) *Live {
	return &Live{out: out, active: IsTerminal(out), every: every, now: time.Now}
}

// Active tells whether the block is redrawn in place.
func (l *Live) Active() bool { return l.active }

// Update shows the block, or, where out is no terminal, the plain line if it is
// due. Lines longer than the terminal is wide are cut.
func (l *Live) Update(block []string, plain string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.active {
		if now := l.now(); l.last.IsZero() || now.Sub(l.last) >= l.every {
			l.last = now
			fmt.Fprintln(l.out, plain)
		}
		return
	}
	l.block = append(l.block[:0], block...)
	l.redraw(nil)
}

// Write puts whole lines above the block.
func (l *Live) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.active || len(l.block) == 0 {
		return l.out.Write(p)
	}
	l.redraw(p)
	return len(p), nil
}

// Printf writes a line above the block.
func (l *Live) Printf(format string, args ...any) {
	fmt.Fprintf(l, format+"\n", args...)
}

// Clear takes the block off the screen; what is written next stands in its
// place.
func (l *Live) Clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.active || l.drawn == 0 {
		return
	}
	l.block = l.block[:0]
	l.redraw(nil)
}

// redraw replaces the block by above and the block, in one write so that it
// does not flicker.
func (l *Live) redraw(above []byte) {
	var b bytes.Buffer
	if l.drawn > 0 {
		fmt.Fprintf(&b, cursorUp+"\r"+clearToEnd, l.drawn)
	} else if len(l.block) > 0 {
		b.WriteString(hideCursor)
	}
	b.Write(above)
	if len(above) > 0 && above[len(above)-1] != '\n' {
		b.WriteByte('\n')
	}
	width := Width(l.out)
	for _, line := range l.block {
		b.WriteString(cut(line, width))
		b.WriteByte('\n')
	}
	if len(l.block) == 0 {
		b.WriteString(showCursor)
	}
	l.drawn = len(l.block)
	_, _ = l.out.Write(b.Bytes()) // a terminal that is gone has nobody left to tell
}

// cut shortens a line to width columns; control sequences take none.
func cut(line string, width int) string {
	columns := 0
	for i := 0; i < len(line); {
		if line[i] == '\x1b' {
			end := strings.IndexByte(line[i:], 'm')
			if end < 0 {
				return line[:i]
			}
			i += end + 1
			continue
		}
		if columns == width {
			return line[:i] + styleNormal
		}
		_, size := utf8.DecodeRuneInString(line[i:])
		columns++
		i += size
	}
	return line
}

// Styler marks text on terminals and leaves it alone elsewhere and where
// NO_COLOR is set (no-color.org).
type Styler struct{ on bool }

// NewStyler suits the output w.
func NewStyler(w io.Writer) Styler {
	return Styler{on: IsTerminal(w) && os.Getenv("NO_COLOR") == ""}
}

func (s Styler) with(style, text string) string {
	if !s.on {
		return text
	}
	return style + text + styleNormal
}

// Bold marks what a line is about.
func (s Styler) Bold(text string) string { return s.with(styleBold, text) }

// Dim marks what may be overlooked.
func (s Styler) Dim(text string) string { return s.with(styleDim, text) }

// Good marks success.
func (s Styler) Good(text string) string { return s.with(styleGreen, text) }

// Bad marks failure.
func (s Styler) Bad(text string) string { return s.with(styleRed, text) }
