//go:build linux

package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// LoadOptions say what a simulated fleet does. The zero value is a light load.
type LoadOptions struct {
	Devices  int     // defaults to 20
	Rate     int     // rows a second of all devices; defaults to 2,000
	Rows     int     // of a frame; defaults to 10
	Channels int     // of a row; defaults to 5
	Faults   string  // none, light or heavy; defaults to none
	Backoff  float64 // multiplies the waits before a reconnect; defaults to 0.01
	// URL defaults to the stage's first server; a proxy may stand there.
	URL string
	// Tokens is a file of names and tokens. Defaults to new devices.
	Tokens string
	// Settle is how long the fleet waits at its end for the last acks. Defaults
	// to Patience.
	Settle time.Duration
	// Seed defaults to the stage's.
	Seed uint64
	// Flags are further flags of fleet run.
	Flags []string
	// AnyAnswer accepts answers to misdeeds other than the protocol's, for
	// scenarios in which the server's end cuts them short.
	AnyAnswer bool
}

// Progress is how a load goes.
type Progress struct {
	TimeMillis int64  `json:"time_ms"`
	Phase      string `json:"phase"`
	Connected  int    `json:"connected"`
	Produced   uint64 `json:"rows_made"`
	Acked      uint64 `json:"rows_acknowledged"`
	Refused    uint64 `json:"refused"`
	Reboots    uint64 `json:"reboots"`
	RecentP99  int64  `json:"ack_p99_us"` // of the last tenth of a second; 0: no acks
}

// Result is what fleet run printed in the end, as far as scenarios ask.
type Result struct {
	Seconds   float64 `json:"seconds"`
	Produced  uint64  `json:"rows_made"`
	Acked     uint64  `json:"rows_acknowledged"`
	Refused   uint64  `json:"refused"`
	Connects  uint64  `json:"connects"`
	Dropped   uint64  `json:"rows_given_up"`
	Unsettled []struct {
		Device string `json:"device"`
		Acked  uint64 `json:"acked"`
		Sent   uint64 `json:"sent"`
	} `json:"unsettled"`
	Closes   map[string]uint64 `json:"ends_of_connections"`
	Misdeeds []struct {
		Name      string `json:"name"`
		Otherwise uint64 `json:"otherwise"`
		Detail    string `json:"detail"`
	} `json:"misdeeds"`
	LastError string `json:"last_error"`
	Latency   struct {
		P50 int64 `json:"p50_us"`
		P99 int64 `json:"p99_us"`
		Max int64 `json:"max_us"`
	} `json:"ack_latency"`
}

// Load is a fleet run process.
type Load struct {
	stage   *Stage
	options LoadOptions
	files   struct{ ledger, progress, result, log string }
	process *process
	watched chan struct{}

	mu      sync.Mutex
	latest  Progress
	moved   time.Time     // when acks last went on, or nothing was waiting for one
	longest time.Duration // between such moments
	ended   bool
	result  Result
}

// Load starts a fleet.
func (s *Stage) Load(options LoadOptions) *Load {
	s.tb.Helper()
	set(&options.Devices, 20)
	set(&options.Rate, 2000)
	set(&options.Rows, 10)
	set(&options.Channels, 5)
	set(&options.Faults, "none")
	set(&options.Backoff, 0.01)
	set(&options.Settle, Patience)
	set(&options.Seed, s.Seed)
	if options.URL == "" {
		options.URL = s.Server.StreamURL()
	}
	s.mu.Lock()
	number := len(s.loads) + 1
	load := &Load{stage: s, options: options, watched: make(chan struct{}), moved: time.Now()}
	s.loads = append(s.loads, load)
	s.mu.Unlock()
	if options.Tokens == "" {
		options.Tokens = s.AddDevices(fmt.Sprintf("load%d-", number), options.Devices)
	}
	for _, file := range []struct {
		path *string
		name string
	}{
		{&load.files.ledger, "ledger"}, {&load.files.progress, "progress"}, {&load.files.result, "result"}, {&load.files.log, "log"},
	} {
		*file.path = filepath.Join(s.dir, fmt.Sprintf("load%d.%s", number, file.name))
	}
	load.launch(options)
	return load
}

func set[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

func (l *Load) launch(o LoadOptions) {
	tb := l.stage.tb
	tb.Helper()
	stdout, err := os.Create(l.files.result)
	if err != nil {
		tb.Fatalf("faults: %v", err)
	}
	defer stdout.Close()
	stderr, err := os.Create(l.files.log)
	if err != nil {
		tb.Fatalf("faults: %v", err)
	}
	defer stderr.Close()
	arguments := append([]string{
		"run", "--url", o.URL, "--tokens", o.Tokens, "--json", "--ledger", l.files.ledger, "--progress", l.files.progress,
		"--devices", strconv.Itoa(o.Devices), "--rate", strconv.Itoa(o.Rate), "--rows", strconv.Itoa(o.Rows),
		"--channels", strconv.Itoa(o.Channels), "--faults", o.Faults, "--settle", o.Settle.String(),
		"--seed", strconv.FormatUint(o.Seed, 10), "--backoff-scale", strconv.FormatFloat(o.Backoff, 'g', -1, 64),
	}, o.Flags...)
	// The fleet is no subject of the race detector here, and twice as fast without.
	if l.process, err = launch(stdout, stderr, nil, "", program(tb, false, "fleet"), arguments...); err != nil {
		tb.Fatal(err)
	}
	go l.watch()
}

// watch reads what the fleet reports, ten times a second.
func (l *Load) watch() {
	defer close(l.watched)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	var file *os.File
	defer func() {
		if file != nil {
			file.Close()
		}
	}()
	var rest []byte
	buffer := make([]byte, 64<<10)
	for last := false; !last; {
		select {
		case <-ticker.C:
		case <-l.process.ended:
			last = true // and read what is left
		}
		if file == nil {
			var err error
			if file, err = os.Open(l.files.progress); err != nil {
				continue
			}
		}
		for {
			n, _ := file.Read(buffer)
			if n == 0 {
				break
			}
			rest = append(rest, buffer[:n]...)
			for {
				line, after, whole := bytes.Cut(rest, []byte("\n"))
				if !whole {
					break
				}
				l.line(line)
				rest = after
			}
		}
	}
}

func (l *Load) line(line []byte) {
	var progress Progress
	if json.Unmarshal(line, &progress) != nil {
		return
	}
	now := time.UnixMilli(progress.TimeMillis)
	l.mu.Lock()
	defer l.mu.Unlock()
	// A stall begins when a row waits and no ack comes.
	if l.latest.Acked == l.latest.Produced || progress.Acked > l.latest.Acked {
		if l.latest.TimeMillis != 0 {
			l.longest = max(l.longest, now.Sub(l.moved))
		}
		l.moved = now
	}
	if progress.Phase != "done" {
		l.longest = max(l.longest, now.Sub(l.moved))
	}
	l.latest = progress
}

// Progress is the latest that the fleet reported.
func (l *Load) Progress() Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.latest
}

// Acked is the number of rows acknowledged so far.
func (l *Load) Acked() uint64 { return l.Progress().Acked }

// Stall is the longest time so far in which rows waited and no ack came, to a
// tenth of a second.
func (l *Load) Stall() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.longest
}

// AwaitAcked waits until so many more rows are acknowledged than now.
func (l *Load) AwaitAcked(more uint64) {
	l.stage.tb.Helper()
	wanted := l.Acked() + more
	l.await("acknowledgements", func(p Progress) error {
		if p.Acked < wanted {
			return fmt.Errorf("%d rows are acknowledged, not yet %d", p.Acked, wanted)
		}
		return nil
	})
}

// AwaitConnected waits until so many devices are connected.
func (l *Load) AwaitConnected(devices int) {
	l.stage.tb.Helper()
	l.await("devices", func(p Progress) error {
		if p.Connected < devices {
			return fmt.Errorf("%d devices are connected, not yet %d", p.Connected, devices)
		}
		return nil
	})
}

func (l *Load) await(what string, reached func(Progress) error) {
	l.stage.tb.Helper()
	err := await(Patience, func() error {
		err := reached(l.Progress())
		if err != nil && !l.process.alive() {
			return waitEndedError{fmt.Errorf("the fleet has ended (%v): %w", l.process.cmd.ProcessState, err)}
		}
		return err
	})
	if err != nil {
		l.stage.tb.Fatalf("faults: waited for %s: %v\n%s", what, err, l.log())
	}
}

func (l *Load) log() string {
	content, _ := os.ReadFile(l.files.log)
	return tail(string(content), 20)
}

// Stop ends the measuring, waits until all is acknowledged or LoadOptions.Settle
// is over, and returns what came of it. The test fails if a device was left
// waiting. It may be called again.
func (l *Load) Stop() Result {
	tb := l.stage.tb
	tb.Helper()
	if l.ended {
		return l.result
	}
	l.ended = true
	l.process.signal(syscall.SIGINT)
	if _, err := l.process.wait(l.options.Settle + Patience); err != nil {
		tb.Fatalf("%v\n%s", err, l.log())
	}
	<-l.watched
	content, err := os.ReadFile(l.files.result)
	if err == nil {
		err = json.Unmarshal(content, &l.result)
	}
	if err != nil {
		tb.Fatalf("faults: the fleet's result: %v: %s\n%s", err, content, l.log())
	}
	r := &l.result
	if len(r.Unsettled) > 0 {
		tb.Errorf("%d devices wait for acks, the first of them: %+v; last error: %s", len(r.Unsettled), r.Unsettled[0], r.LastError)
	}
	for _, misdeed := range r.Misdeeds {
		if misdeed.Otherwise > 0 && !l.options.AnyAnswer {
			tb.Errorf("misdeed %s was answered otherwise %d times: %s", misdeed.Name, misdeed.Otherwise, misdeed.Detail)
		}
	}
	return l.result
}

func (l *Load) stop() {
	if l.process != nil {
		l.process.kill()
		<-l.watched
	}
}
