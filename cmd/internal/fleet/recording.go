package fleet

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"mooring/wire"
)

// RecordingFormat says how to read a recorded CSV file.
type RecordingFormat struct {
	// Time names the columns that say when; their texts are joined by a space.
	Time []string
	// TimeLayout is a layout of Go's time package, or unix or unixms.
	TimeLayout string
	// Zone is where the clock stood, unless the times say so. Defaults to UTC.
	Zone *time.Location
	// Missing are texts that mean "no reading"; so does an empty cell. If one is
	// a number, its other spellings mean the same.
	Missing []string
}

// ErrRecording is matched by errors about a file's content; they name the line.
var ErrRecording = errors.New("fleet: the recording can't be read")

// recording is a CSV file with a time and channels of numbers. The file is read
// again for each pass, so its size does not matter.
type recording struct {
	path    string
	format  RecordingFormat
	names   []string // of the channels, made fit for the protocol
	columns []int    // of the channels
	time    []int    // columns
	missing []float64
	parts   []string // of a time; scratch

	rows  int
	first time.Time
	last  time.Time // the latest
}

// openRecording reads a file once, to find what is wrong with it before
// anything is sent.
func openRecording(path string, format RecordingFormat) (*recording, error) {
	if format.Zone == nil {
		format.Zone = time.UTC
	}
	r := &recording{path: path, format: format}
	for _, text := range format.Missing {
		if number, err := strconv.ParseFloat(text, 64); err == nil {
			r.missing = append(r.missing, number)
		}
	}
	err := r.each(func(at time.Time, _ []wire.Value) error {
		if r.rows == 0 || at.Before(r.first) {
			r.first = at
		}
		if r.rows == 0 || at.After(r.last) {
			r.last = at
		}
		r.rows++
		return nil
	})
	if err == nil && r.rows == 0 {
		err = fmt.Errorf("%w: %s has no rows", ErrRecording, path)
	}
	return r, err
}

// each calls yield with every row; values are valid until it returns.
func (r *recording) each(yield func(at time.Time, values []wire.Value) error) error {
	file, err := os.Open(r.path)
	if err != nil {
		return fmt.Errorf("fleet: recording: %w", err)
	}
	defer file.Close()
	reader := csv.NewReader(file)
	reader.ReuseRecord = true
	header, err := reader.Read()
	if err != nil {
		return fmt.Errorf("%w: header: %w", ErrRecording, err)
	}
	if err := r.readHeader(header); err != nil {
		return err
	}
	values := make([]wire.Value, len(r.columns))
	for {
		record, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrRecording, err)
		}
		at, err := r.parseTime(record)
		if err == nil {
			err = r.parseValues(record, values)
		}
		if err != nil {
			line, _ := reader.FieldPos(0)
			return fmt.Errorf("%w: line %d: %w", ErrRecording, line, err)
		}
		if err := yield(at, values); err != nil {
			return err
		}
	}
}

func (r *recording) readHeader(header []string) error {
	r.names, r.columns, r.time = nil, nil, nil
	header[0] = strings.TrimPrefix(header[0], "\ufeff") // as spreadsheets begin files
	for _, name := range r.format.Time {
		column := slices.Index(header, name)
		if column < 0 {
			return fmt.Errorf("%w: no column %q; there are %s", ErrRecording, name, strings.Join(header, ", "))
		}
		r.time = append(r.time, column)
	}
	for column, name := range header {
		if !slices.Contains(r.time, column) {
			r.columns = append(r.columns, column)
			r.names = append(r.names, channelName(name, r.names))
		}
	}
	if len(r.time) == 0 || len(r.columns) == 0 || len(r.columns) > wire.DefaultMaxChannels {
		return fmt.Errorf("%w: %d columns of times and %d of channels; one at least, and at most %d channels",
			ErrRecording, len(r.time), len(r.columns), wire.DefaultMaxChannels)
	}
	return nil
}

// channelName makes a column's name one that PROTOCOL §4.3 allows and that is
// not among those taken.
func channelName(column string, taken []string) string {
	fit := "column"
	if column = strings.TrimSpace(column); column != "" {
		fit = wire.DefaultLayoutName(column)
	}
	name := fit
	for n := 2; slices.Contains(taken, name); n++ {
		suffix := "_" + strconv.Itoa(n)
		name = fit[:min(len(fit), wire.MaxName-len(suffix))] + suffix
	}
	return name
}

func (r *recording) parseTime(record []string) (time.Time, error) {
	r.parts = r.parts[:0]
	for _, column := range r.time {
		r.parts = append(r.parts, record[column])
	}
	text := strings.TrimSpace(strings.Join(r.parts, " "))
	var at time.Time
	var err error
	switch r.format.TimeLayout {
	case "unix":
		var seconds float64
		seconds, err = strconv.ParseFloat(text, 64)
		at = time.UnixMilli(int64(math.Round(seconds * 1000)))
	case "unixms":
		var millis int64
		millis, err = strconv.ParseInt(text, 10, 64)
		at = time.UnixMilli(millis)
	default:
		at, err = time.ParseInLocation(r.format.TimeLayout, text, r.format.Zone)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("time: %w; --time-layout says how it is written", err)
	}
	return at, nil
}

func (r *recording) parseValues(record []string, values []wire.Value) error {
	for i, column := range r.columns {
		text := strings.TrimSpace(record[column])
		values[i] = wire.Value{}
		if text == "" || slices.Contains(r.format.Missing, text) {
			continue
		}
		number, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("column %s: %q is no number", r.names[i], text)
		}
		if slices.Contains(r.missing, number) {
			continue
		}
		values[i] = wire.Value{Kind: wire.ValueNumber, Number: number}
		// A whole number takes fewer bytes as an integer and means the same.
		if whole := int64(number); math.Abs(number) < 1<<53 && float64(whole) == number {
			values[i] = wire.Value{Kind: wire.ValueInt, Int: whole}
		}
	}
	return nil
}
