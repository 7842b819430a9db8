package fleet

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"mooring/wire"
)

// The ledger is a file of JSON lines, only ever appended to: a header, a line
// for each boot, and lines of how far a boot got. The last line of a boot
// counts, so the file may end anywhere.

// ErrLedger is matched by errors about a ledger's content.
var ErrLedger = errors.New("fleet: not a ledger")

const ledgerVersion = 1

// Header is a ledger's first line.
type Header struct {
	Kind     string `json:"kind"` // "run"
	Version  int    `json:"version"`
	Run      uint32 `json:"run"`
	Seed     uint64 `json:"seed"`
	Channels int    `json:"channels"`
	Float32  bool   `json:"float32,omitempty"` // of devices without float64
	Refusals uint64 `json:"refusals"`          // one row in so many; 0: none
	Started  string `json:"started"`           // RFC 3339, for people
	URL      string `json:"url"`
	Devices  int    `json:"devices"`
	Rate     int    `json:"rate"`
	Rows     int    `json:"rows"`
	Faults   string `json:"faults"`
}

func (h *Header) plan() *Plan {
	return &Plan{Run: h.Run, Seed: h.Seed, Channels: h.Channels, Float32: h.Float32, Refusals: h.Refusals}
}

// bootLine announces a boot.
type bootLine struct {
	Kind string `json:"kind"` // "boot"
	Boot
}

// stateLine is how far a boot got.
type stateLine struct {
	Kind  string `json:"kind"` // "state"
	Index int    `json:"index"`
	Boot  int    `json:"boot"`
	// Sent is one more than the last row that may have been sent.
	Sent uint64 `json:"sent"`
	// Acked is as an ACK said, and never more: the rows before it are settled.
	Acked uint64 `json:"acked"`
	// Dropped are the rows given up since the line before: [seq, n].
	Dropped [][2]uint64 `json:"dropped,omitempty"`
	// Refused are the server's refusals since the line before:
	// [seq, n, channel or -1, code].
	Refused [][4]int64 `json:"refused,omitempty"`
	// End means that the boot is over and Sent is final.
	End bool `json:"end,omitempty"`
}

// ledgerWriter appends to a ledger. Safe for concurrent use. After an error it
// writes nothing more; close tells.
type ledgerWriter struct {
	mu     sync.Mutex
	file   io.Closer
	buffer *bufio.Writer
	encode *json.Encoder
	err    error
}

func newLedgerWriter(path string, header *Header) (*ledgerWriter, error) {
	w := &ledgerWriter{}
	if path == "" {
		w.buffer = bufio.NewWriter(io.Discard)
	} else {
		file, err := os.Create(path)
		if err != nil {
			return nil, fmt.Errorf("fleet: ledger: %w", err)
		}
		w.file, w.buffer = file, bufio.NewWriterSize(file, 64<<10)
	}
	w.encode = json.NewEncoder(w.buffer)
	header.Kind, header.Version = "run", ledgerVersion
	w.write(header)
	w.flush()
	return w, w.err
}

func (w *ledgerWriter) write(line any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = w.encode.Encode(line)
	}
}

// flush makes the lines so far outlive this process.
func (w *ledgerWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = w.buffer.Flush()
	}
}

func (w *ledgerWriter) close() error {
	w.flush()
	if w.file != nil {
		if err := w.file.Close(); w.err == nil {
			w.err = err
		}
	}
	if w.err != nil {
		return fmt.Errorf("fleet: ledger: %w", w.err)
	}
	return nil
}

// BootRecord is a boot and how far it got.
type BootRecord struct {
	Boot

	Sent    uint64
	Acked   uint64
	Ended   bool // Sent is final
	Dropped []span
	Refused []wire.Reject
}

// span is rows Seq … Seq+N-1.
type span struct{ seq, n uint64 }

func (b *BootRecord) dropped(seq uint64) bool {
	for _, s := range b.Dropped {
		if seq >= s.seq && seq-s.seq < s.n {
			return true
		}
	}
	return false
}

// Ledger is what a run noted. Its memory grows with boots and refusals, not
// with rows.
type Ledger struct {
	Header  Header
	Devices [][]*BootRecord // by index, then by boot
}

// ReadLedger reads a ledger file. A last line that was cut off, as when the
// writer was killed, is ignored.
func ReadLedger(path string) (*Ledger, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("fleet: ledger: %w", err)
	}
	defer file.Close()
	return readLedger(file)
}

func readLedger(from io.Reader) (*Ledger, error) {
	ledger := &Ledger{}
	reader := bufio.NewReaderSize(from, 256<<10)
	for number := 1; ; number++ {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if number == 1 {
				return nil, fmt.Errorf("%w: it is empty", ErrLedger)
			}
			return ledger, nil
		}
		if err != nil {
			return nil, fmt.Errorf("fleet: ledger: %w", err)
		}
		if err := ledger.add(line, number); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrLedger, number, err)
		}
	}
}

func (l *Ledger) add(line []byte, number int) error {
	var head struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return err
	}
	if (number == 1) != (head.Kind == "run") {
		return fmt.Errorf("a line of kind %q", head.Kind)
	}
	switch head.Kind {
	case "run":
		if err := json.Unmarshal(line, &l.Header); err != nil {
			return err
		}
		if l.Header.Version != ledgerVersion {
			return fmt.Errorf("version %d, not %d", l.Header.Version, ledgerVersion)
		}
		if l.Header.Channels < 1 || l.Header.Channels > wire.DefaultMaxChannels {
			return fmt.Errorf("%d channels", l.Header.Channels)
		}
		return nil
	case "boot":
		var boot bootLine
		if err := json.Unmarshal(line, &boot); err != nil {
			return err
		}
		return l.addBoot(&BootRecord{Boot: boot.Boot})
	case "state":
		var state stateLine
		if err := json.Unmarshal(line, &state); err != nil {
			return err
		}
		return l.addState(&state)
	default:
		return fmt.Errorf("a line of kind %q", head.Kind)
	}
}

func (l *Ledger) addBoot(boot *BootRecord) error {
	const maxDevices = 10_000_000
	if boot.Index < 0 || boot.Index >= maxDevices {
		return fmt.Errorf("device %d", boot.Index)
	}
	for len(l.Devices) <= boot.Index {
		l.Devices = append(l.Devices, nil)
	}
	boots := &l.Devices[boot.Index]
	if boot.Number != len(*boots) {
		return fmt.Errorf("boot %d of device %d is out of order", boot.Number, boot.Index)
	}
	*boots = append(*boots, boot)
	return nil
}

func (l *Ledger) addState(state *stateLine) error {
	if state.Index < 0 || state.Index >= len(l.Devices) || state.Boot < 0 || state.Boot >= len(l.Devices[state.Index]) {
		return fmt.Errorf("boot %d of device %d was not announced", state.Boot, state.Index)
	}
	if state.Acked > state.Sent || state.Sent >= wire.MaxSeq {
		return fmt.Errorf("%d acked of %d sent", state.Acked, state.Sent)
	}
	boot := l.Devices[state.Index][state.Boot]
	boot.Sent, boot.Acked, boot.Ended = state.Sent, state.Acked, state.End
	for _, dropped := range state.Dropped {
		boot.Dropped = append(boot.Dropped, span{dropped[0], dropped[1]})
	}
	for _, refused := range state.Refused {
		boot.Refused = append(boot.Refused, wire.Reject{
			Seq: uint64(refused[0]), N: uint64(refused[1]), Channel: int(refused[2]), Code: wire.Code(refused[3]),
		})
	}
	return nil
}
