package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"mooring/cmd/internal/fleet"
)

// progressLogEvery is how often a line is written to the file of --progress.
const progressLogEvery = 100 * time.Millisecond

// progressLine is one line of that file: the state at one moment, for programs
// that watch a run.
type progressLine struct {
	Time      int64       `json:"time_ms"` // since 1970
	Phase     fleet.Phase `json:"phase"`
	Connected int         `json:"connected"`
	Produced  uint64      `json:"rows_made"`
	Acked     uint64      `json:"rows_acknowledged"`
	Refused   uint64      `json:"refused"`
	Reboots   uint64      `json:"reboots"`
	RecentP99 int64       `json:"ack_p99_us"` // of the acks since the line before; 0: there were none
}

// progressLog writes such a file.
type progressLog struct {
	file *os.File
	last time.Time // when people were told
}

func newProgressLog(path string) (*progressLog, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("--progress: %w", err)
	}
	return &progressLog{file: file}, nil
}

// beside gives what tells the file ten times a second, and people as often as
// before.
func (l *progressLog) beside(people func(fleet.Progress), every time.Duration) (func(fleet.Progress), time.Duration) {
	return func(progress fleet.Progress) {
		line, err := json.Marshal(progressLine{
			Time: time.Now().UnixMilli(), Phase: progress.Phase, Connected: progress.Connected,
			Produced: progress.Produced, Acked: progress.Acked, Refused: progress.Refused, Reboots: progress.Reboots,
			RecentP99: progress.RecentP99.Microseconds(),
		})
		if err == nil {
			_, _ = l.file.Write(append(line, '\n')) // whoever watches misses a line; the run goes on
		}
		if now := time.Now(); now.Sub(l.last) >= every || progress.Phase == fleet.PhaseDone {
			l.last = now
			people(progress)
		}
	}, progressLogEvery
}

func (l *progressLog) close() { _ = l.file.Close() }
