package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, `fill in the vectors' "=> ?" lines, to be reviewed by a person`)

// vector is one frame of testdata, whose files explain their form.
type vector struct {
	file, name string
	frame      []byte
	loose      bool
	channels   []Channel
	limits     Limits
	now        int64
	content    string // behind "="
	want       string // behind "=>"
}

func vectorFiles(tb testing.TB) []string {
	tb.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(tb, err)
	require.NotEmpty(tb, files)
	return files
}

func readVectors(tb testing.TB) []*vector {
	tb.Helper()
	var all []*vector
	for _, file := range vectorFiles(tb) {
		text, err := os.ReadFile(file)
		require.NoError(tb, err)
		var v *vector
		for number, line := range strings.Split(string(text), "\n") {
			if name, ok := strings.CutPrefix(line, "== "); ok {
				v = &vector{file: file, name: name}
				all = append(all, v)
				continue
			}
			if v != nil {
				require.NoError(tb, v.parse(line), "%s:%d", file, number+1)
			}
		}
	}
	return all
}

func (v *vector) parse(line string) error {
	switch {
	case strings.HasPrefix(line, "=> "):
		v.want = line[3:]
	case strings.HasPrefix(line, "= "):
		v.content = line[2:]
	case strings.HasPrefix(line, "@ "):
		return v.directive(line[2:])
	default:
		digits, _, _ := strings.Cut(line, ";")
		part, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
		v.frame = append(v.frame, part...)
		return err
	}
	return nil
}

func (v *vector) directive(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "loose":
		v.loose = true
		return nil
	case "now":
		_, err := fmt.Sscan(rest, &v.now)
		return err
	case "range":
		_, err := fmt.Sscan(rest, &v.limits.Oldest, &v.limits.Newest)
		return err
	case "layout":
		var channels [][]any
		err := json.Unmarshal([]byte(rest), &channels)
		for _, fields := range channels {
			channel := Channel{Name: fields[0].(string)}
			for i, field := range fields[1:] {
				switch i {
				case 0:
					channel.Unit = field.(string)
				case 1:
					channel.Kind = Kind(field.(float64))
				case 2:
					channel.Exp10 = int8(field.(float64))
				}
			}
			v.channels = append(v.channels, channel)
		}
		return err
	}
	return fmt.Errorf("unknown directive %q", word)
}

// outcome is what the decoder makes of a frame, as the vectors write it, and
// what it decoded to.
func (v *vector) outcome() (string, any) {
	kind, err := FrameTypeOf(v.frame)
	if err != nil {
		return describeFault(err), nil
	}
	if !kind.FromDevice() && !kind.FromServer() {
		return "ignored", nil
	}
	if kind == FrameData {
		form, err := v.decodeData()
		if err != nil {
			return describeFault(err), nil
		}
		return encodeForm(form), nil
	}
	decoded, err := decodeFrame(NewDecoder(v.limits), kind, v.frame)
	if err != nil {
		return describeFault(err), nil
	}
	return encodeForm(formOf(reflect.ValueOf(decoded))), decoded
}

// decodeFrame decodes a frame of any type but DATA.
func decodeFrame(d *Decoder, kind FrameType, frame []byte) (any, error) {
	switch kind {
	case FrameHello:
		return d.Hello(frame)
	case FrameLayout:
		return d.Layout(frame)
	case FrameResult:
		return d.Result(frame)
	case FramePing:
		return d.Ping(frame)
	case FrameWelcome:
		return d.Welcome(frame)
	case FrameAck:
		return d.Ack(frame)
	case FrameCommand:
		return d.Command(frame)
	case FrameNotice:
		return d.Notice(frame)
	case FramePong:
		return d.Pong(frame)
	case FrameData:
	}
	return nil, fmt.Errorf("no decoder for type %d", kind)
}

// encodeFrame encodes what decodeFrame decoded.
func encodeFrame(e *Encoder, decoded any) []byte {
	switch frame := decoded.(type) {
	case Hello:
		return e.Hello(frame)
	case Layout:
		return e.Layout(&frame)
	case Result:
		return e.Result(frame)
	case Ping:
		return e.Ping(frame)
	case Welcome:
		return e.Welcome(frame)
	case Ack:
		return e.Ack(&frame)
	case Command:
		return e.Command(frame)
	case Notice:
		return e.Notice(frame)
	case Pong:
		return e.Pong(frame)
	}
	return nil
}

func describeFault(err error) string {
	switch fault := err.(type) { //nolint:errorlint // the decoder promises these types themselves
	case *FrameError:
		return fmt.Sprintf("close %d %s", fault.Close, fault.Close)
	case *BodyError:
		return fmt.Sprintf("rows %d %d %s", fault.Seq, fault.N, fault.Code)
	case *LayoutError:
		channel := "nil"
		if fault.Channel != WholeRow {
			channel = strconv.Itoa(fault.Channel)
		}
		return fmt.Sprintf("layout %d %s %s", fault.Layout, channel, fault.Code)
	}
	return err.Error()
}

func (v *vector) decodeData() (map[string]any, error) {
	d := NewDecoder(v.limits)
	oldest := v.limits.Oldest
	if v.limits.Newest == 0 {
		oldest = -1 << 63
	}
	d.SetTimeRange(oldest, v.limits.Newest)
	head, err := d.DataHead(v.frame)
	if err != nil {
		return nil, err
	}
	form := map[string]any{"seq": head.Seq, "n": head.N}
	layout := &Layout{Channels: v.channels}
	if len(head.Names) > 0 {
		inferred, err := d.InferLayout(head)
		if err != nil {
			return nil, err
		}
		layout = &inferred
		var kinds []string
		for _, channel := range inferred.Channels {
			kinds = append(kinds, channel.Name+":"+[]string{"number", "bool", "text"}[channel.Kind])
		}
		form["channels"] = kinds
	} else {
		form["layout"] = head.Layout
	}
	rows := []any{}
	var row Row
	for d.Rows(layout, v.now); d.Next(&row); {
		rows = append(rows, []any{row.Seq, row.Time, rowForm(&row)})
	}
	if err := d.Err(); err != nil {
		return nil, err
	}
	form["rows"] = rows
	if d.Rejected() > 0 {
		form["rejected"] = d.Rejected()
		form["rejects"] = rejectsForm(d.Rejects())
	}
	if d.RowsRefused() > 0 {
		form["rows_refused"] = d.RowsRefused()
	}
	return form, nil
}

func rowForm(row *Row) []any {
	values := make([]any, len(row.Values))
	for i := range row.Values {
		switch value := &row.Values[i]; value.Kind {
		case ValueNumber:
			values[i] = value.Number
		case ValueBool:
			values[i] = value.Number == 1
		case ValueText:
			values[i] = string(value.Text)
		case ValueNil:
		case ValueInt, ValueFloat32:
			values[i] = "impossible"
		}
	}
	return values
}

func rejectsForm(rejects []Reject) []any {
	var list []any
	for _, reject := range rejects {
		channel := any(reject.Channel)
		if reject.Channel == WholeRow {
			channel = nil
		}
		list = append(list, []any{reject.Seq, reject.N, channel, reject.Code.String()})
	}
	return list
}

// formOf turns a struct into JSON values under the protocol's names for its
// fields, zero fields left out.
func formOf(value reflect.Value) any {
	switch value.Kind() {
	case reflect.Struct:
		if reject, ok := reflect.TypeAssert[Reject](value); ok {
			return rejectsForm([]Reject{reject})[0]
		}
		form := map[string]any{}
		for i := range value.NumField() {
			if field := value.Field(i); !field.IsZero() {
				form[fieldName(value.Type().Field(i).Name)] = formOf(field)
			}
		}
		return form
	case reflect.Slice:
		if raw, ok := reflect.TypeAssert[[]byte](value); ok {
			return hex.EncodeToString(raw)
		}
		list := make([]any, value.Len())
		for i := range list {
			list[i] = formOf(value.Index(i))
		}
		return list
	default:
		return value.Interface()
	}
}

func fieldName(name string) string {
	names := map[string]string{
		"BootID": "boot_id", "Heartbeat": "hb", "MaxReceive": "max_rx", "MaxFrame": "max_frame",
		"HasNext": "has_next", "MinGapMillis": "min_gap_ms", "ForSeconds": "for_s", "GraceMillis": "grace_ms",
		"MinMillis": "min_ms", "MaxMillis": "max_ms", "ID": "id", "Reason": "reason", "Number": "layout",
	}
	if short, ok := names[name]; ok {
		return short
	}
	return strings.ToLower(name)
}

func encodeForm(form any) string {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(form); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(text.String())
}

func TestVectors(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, v := range readVectors(t) {
		require.False(t, seen[v.name], "%s stands twice", v.name)
		seen[v.name] = true
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			got, decoded := v.outcome()
			if v.want == "?" && *update {
				fillIn(t, v.file, v.name, got)
				return
			}
			require.Equal(t, v.want, got)
			if v.loose || decoded == nil {
				return
			}
			require.Equal(t, hex.EncodeToString(v.frame), hex.EncodeToString(encodeFrame(NewEncoder(), decoded)),
				"encoded again")
		})
	}
}

// TestVectorsCutShort sees that no frame cut short, nor one followed by a byte,
// is ever taken for whole.
func TestVectorsCutShort(t *testing.T) {
	t.Parallel()
	for _, v := range readVectors(t) {
		if !strings.HasPrefix(v.want, "{") {
			continue
		}
		for length := range v.frame {
			short := *v
			short.frame = v.frame[:length:length]
			got, _ := short.outcome()
			require.False(t, strings.HasPrefix(got, "{"), "%s cut to %d bytes: %s", v.name, length, got)
		}
		long := *v
		long.frame = slices.Concat(v.frame, []byte{0xc0})
		got, _ := long.outcome()
		require.False(t, strings.HasPrefix(got, "{"), "%s and a byte: %s", v.name, got)
	}
}

func fillIn(t *testing.T, file, name, got string) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	before, after, found := strings.Cut(string(text), "== "+name+"\n")
	require.True(t, found)
	after = strings.Replace(after, "\n=> ?", "\n=> "+got, 1)
	require.NoError(t, os.WriteFile(file, []byte(before+"== "+name+"\n"+after), 0o600))
}
