package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"mooring/cmd/internal/fleet"
	"mooring/cmd/internal/terminal"
)

// plainEvery is how often a line is written where there is no terminal.
const plainEvery = 5 * time.Second

// runProgress shows a run: a bar of time on a terminal, else plain lines. Log
// lines written to it appear above the bar.
type runProgress struct {
	mu     sync.Mutex
	out    io.Writer
	length time.Duration            // of the measuring; 0: open-ended
	bar    *progressbar.ProgressBar // nil: no terminal
	phase  fleet.Phase
	last   time.Time
}

func newRunProgress(out io.Writer, length time.Duration) *runProgress {
	p := &runProgress{out: out, length: length}
	if terminal.IsTerminal(out) {
		p.bar = newBar(out, length.Milliseconds())
	}
	return p
}

// newBar is a bar of so many units; 0: a spinner.
func newBar(out io.Writer, units int64) *progressbar.ProgressBar {
	if units == 0 {
		units = -1
	}
	return progressbar.NewOptions64(units,
		progressbar.OptionSetWriter(out),
		progressbar.OptionSetWidth(24),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionShowDescriptionAtLineEnd(),
		progressbar.OptionClearOnFinish(),
	)
}

// every is how often to report.
func (p *runProgress) every() time.Duration {
	if p.bar != nil {
		return 250 * time.Millisecond
	}
	return time.Second
}

func (p *runProgress) report(progress fleet.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	line := fmt.Sprintf("%d/%d online  %.0f rows/s acked  ack p99 %s  %d of %d rows",
		progress.Connected, progress.Devices, progress.RowsPerSecond,
		progress.P99.Round(10*time.Microsecond), progress.Acked, progress.Produced)
	if progress.Phase == fleet.PhaseSettling {
		line = "settling: " + line
	}
	changed := progress.Phase != p.phase
	p.phase = progress.Phase
	if p.bar == nil {
		if now := time.Now(); changed || now.Sub(p.last) >= plainEvery {
			p.last = now
			fmt.Fprintf(p.out, "%5.0f s  %s\n", progress.Elapsed.Seconds(), line)
		}
		return
	}
	const besideBar = 40 // what bar and percentage take of the line
	p.bar.Describe(line[:min(len(line), max(terminal.Width(p.out)-besideBar, 20))])
	if p.length == 0 {
		_ = p.bar.Add(1) // a terminal that is gone shows nothing
	} else {
		// Full only when all is settled, since a full bar goes away.
		_ = p.bar.Set64(min(progress.Elapsed.Milliseconds(), p.length.Milliseconds()-1))
	}
}

// Write puts a log line above the bar.
func (p *runProgress) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	return p.out.Write(line)
}

// finish takes the bar off the screen.
func (p *runProgress) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Clear()
		_ = p.bar.Exit()
	}
}

// countProgress shows how many of a known number of things are done.
type countProgress struct {
	mu   sync.Mutex
	out  io.Writer
	what string
	bar  *progressbar.ProgressBar // nil: no terminal, or nothing reported yet
	last time.Time
}

func newCountProgress(out io.Writer, what string) *countProgress {
	return &countProgress{out: out, what: what, last: time.Now()}
}

func (c *countProgress) report(done, all int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !terminal.IsTerminal(c.out) {
		if now := time.Now(); now.Sub(c.last) >= plainEvery {
			c.last = now
			fmt.Fprintf(c.out, "%d of %d %s\n", done, all, c.what)
		}
		return
	}
	if c.bar == nil {
		c.bar = newBar(c.out, all)
	}
	c.bar.Describe(fmt.Sprintf("%d of %d %s", done, all, c.what))
	_ = c.bar.Set64(done) // a terminal that is gone shows nothing
}

func (c *countProgress) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bar != nil {
		_ = c.bar.Clear()
		_ = c.bar.Exit()
	}
}
