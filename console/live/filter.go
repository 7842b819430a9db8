package live

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"mooring/devices"
)

// events is a set of kinds of events.
type events uint8

// The kinds of events.
const (
	eventReadings events = 1 << iota
	eventPresence
	eventCommands
	eventRefusals
	eventFleet
	eventAll = eventReadings | eventPresence | eventCommands | eventRefusals | eventFleet
)

var eventNames = map[string]events{
	"readings": eventReadings, "presence": eventPresence, "commands": eventCommands, "refusals": eventRefusals, "fleet": eventFleet,
}

// filter is what a viewer wants to be told.
type filter struct {
	names    []string // sorted; nil: any
	model    string
	labels   map[string]string
	channels []string // sorted; nil: all
	events   events
	every    time.Duration
}

// anyDevice says whether the filter leaves out no device.
func (f *filter) anyDevice() bool { return f.names == nil && f.model == "" && len(f.labels) == 0 }

// listed says whether the devices must be known one by one.
func (f *filter) listed() bool { return !f.anyDevice() || f.events&(eventReadings|eventPresence) != 0 }

func (f *filter) watch(limit int) devices.WatchFilter {
	return devices.WatchFilter{Names: f.names, Model: f.model, Labels: f.labels, Limit: limit}
}

// devicesKey is the same for filters that select the same devices.
func (f *filter) devicesKey() string {
	if !f.listed() {
		return "nothing to list"
	}
	var key strings.Builder
	for _, name := range f.names {
		fmt.Fprintf(&key, "d%q", name)
	}
	fmt.Fprintf(&key, "m%q", f.model)
	for _, label := range slices.Sorted(maps.Keys(f.labels)) {
		fmt.Fprintf(&key, "l%q%q", label, f.labels[label])
	}
	return key.String()
}

// hash tells filters apart in cursors. The pace is no part of it.
func (f *filter) hash() uint32 {
	sum := fnv.New32a()
	_, _ = fmt.Fprintf(sum, "%s %q %d", f.devicesKey(), f.channels, f.events)
	return sum.Sum32()
}

func (f *filter) wants(channel string) bool {
	if f.channels == nil {
		return true
	}
	_, found := slices.BinarySearch(f.channels, channel)
	return found
}

// fieldError says what is wrong with a filter.
type fieldError struct{ field, problem string }

func (e *fieldError) Error() string { return e.field + ": " + e.problem }

// check puts lists in order and holds the limits.
func (f *filter) check() error {
	for _, list := range []struct {
		field  string
		values *[]string
		most   int
	}{{"device", &f.names, maxNames}, {"channel", &f.channels, maxChannels}} {
		slices.Sort(*list.values)
		*list.values = slices.Compact(*list.values)
		if len(*list.values) > list.most {
			return &fieldError{list.field, fmt.Sprintf("are %d; at most %d are allowed", len(*list.values), list.most)}
		}
		for _, value := range *list.values {
			if err := checkText(list.field, value); err != nil {
				return err
			}
		}
		if len(*list.values) == 0 {
			*list.values = nil
		}
	}
	if f.model != "" {
		if err := checkText("model", f.model); err != nil {
			return err
		}
	}
	if len(f.labels) > maxLabels {
		return &fieldError{"label", fmt.Sprintf("are %d; at most %d are allowed", len(f.labels), maxLabels)}
	}
	for key, value := range f.labels {
		if err := checkText("label", key); err != nil {
			return err
		}
		if len(value) > maxName || !isText(value) {
			return &fieldError{"label", fmt.Sprintf("must be UTF-8 text of at most %d bytes, without U+0000", maxName)}
		}
	}
	if f.every < minEvery || f.every > maxEvery {
		return &fieldError{"every", fmt.Sprintf("must be from %v to %v, as 500ms or 2s", minEvery, maxEvery)}
	}
	return nil
}

func checkText(field, value string) error {
	if value == "" || len(value) > maxName || !isText(value) {
		return &fieldError{field, fmt.Sprintf("must be UTF-8 text of 1 to %d bytes, without U+0000", maxName)}
	}
	return nil
}

// isText tells whether PostgreSQL can compare with it.
func isText(value string) bool { return utf8.ValidString(value) && strings.IndexByte(value, 0) < 0 }

func parseEvents(names []string) (events, error) {
	if len(names) == 0 {
		return eventAll, nil
	}
	var set events
	for _, name := range names {
		kind, ok := eventNames[name]
		if !ok {
			return 0, &fieldError{"events", fmt.Sprintf("%.40q is none of readings, presence, commands, refusals, fleet", name)}
		}
		set |= kind
	}
	return set, nil
}

func parseEvery(text string) (time.Duration, error) {
	if text == "" {
		return defaultEvery, nil
	}
	every, err := time.ParseDuration(text)
	if err != nil {
		return 0, &fieldError{"every", fmt.Sprintf("must be from %v to %v, as 500ms or 2s", minEvery, maxEvery)}
	}
	return every, nil
}

// request is what a viewer asks for to begin with.
type request struct {
	filter     filter
	cursor     string
	noSnapshot bool
}

// parseQuery reads the query of GET /v1/live.
func parseQuery(query url.Values) (request, error) {
	req := request{filter: filter{labels: make(map[string]string)}}
	f := &req.filter
	var err error
	for name, values := range query {
		switch name {
		case "device":
			f.names = slices.Clone(values)
		case "channel":
			f.channels = slices.Clone(values)
		case "label":
			for _, pair := range values {
				key, value, ok := strings.Cut(pair, "=")
				if !ok {
					return req, &fieldError{"label", "must be like key=value"}
				}
				f.labels[key] = value
			}
		case "model", "events", "every", "cursor", "snapshot":
			if len(values) > 1 {
				return req, &fieldError{name, "may stand once only"}
			}
		default:
			return req, &fieldError{fmt.Sprintf("%.40q", name), "is no parameter; there are device, model, label, channel, events, every, cursor, snapshot"}
		}
	}
	f.model = query.Get("model")
	var kinds []string
	if text := query.Get("events"); text != "" {
		kinds = strings.Split(text, ",")
	}
	if f.events, err = parseEvents(kinds); err != nil {
		return req, err
	}
	if f.every, err = parseEvery(query.Get("every")); err != nil {
		return req, err
	}
	req.cursor = query.Get("cursor")
	switch query.Get("snapshot") {
	case "", "true":
	case "false":
		req.noSnapshot = true
	default:
		return req, &fieldError{"snapshot", "must be true or false"}
	}
	return req, f.check()
}

// parseSubscribe reads a viewer's message.
func parseSubscribe(text []byte) (filter, error) {
	var message struct {
		Type     string            `json:"type"`
		Devices  []string          `json:"devices"`
		Model    string            `json:"model"`
		Labels   map[string]string `json:"labels"`
		Channels []string          `json:"channels"`
		Events   []string          `json:"events"`
		Every    string            `json:"every"`
	}
	if len(text) > maxSubscribe {
		return filter{}, &fieldError{"message", fmt.Sprintf("has %d bytes; at most %d are allowed", len(text), maxSubscribe)}
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&message); err != nil {
		return filter{}, &fieldError{"message", "is no subscribe message: " + err.Error()}
	}
	if _, err := decoder.Token(); err != io.EOF {
		return filter{}, &fieldError{"message", "goes on behind its end"}
	}
	if message.Type != "subscribe" {
		return filter{}, &fieldError{"type", "must be subscribe"}
	}
	f := filter{names: message.Devices, model: message.Model, labels: message.Labels, channels: message.Channels}
	var err error
	if f.events, err = parseEvents(message.Events); err != nil {
		return filter{}, err
	}
	if f.every, err = parseEvery(message.Every); err != nil {
		return filter{}, err
	}
	return f, f.check()
}
