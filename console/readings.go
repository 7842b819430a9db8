package console

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mooring/devices"
	"mooring/storage"
)

// Reading is one value of one channel.
type Reading struct {
	Time   time.Time `json:"ts" doc:"When it was measured, by the device's clock"`
	Metric string    `json:"metric" doc:"Name of the channel"`
	Value  *float64  `json:"value,omitempty" doc:"The number; 0 or 1 for a bool"`
	Text   *string   `json:"text,omitempty"`
	Unit   string    `json:"unit,omitempty"`
	Seq    int64     `json:"seq,omitempty" doc:"The device's number of the row"`
}

// Bucket sums a metric up over one step.
type Bucket struct {
	Start  time.Time `json:"ts" doc:"Where the step begins"`
	Metric string    `json:"metric"`
	Unit   string    `json:"unit,omitempty"`
	Count  int64     `json:"count"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Avg    float64   `json:"avg"`
	Last   float64   `json:"last"`
}

const (
	defaultStretch = time.Hour
	// maxBuckets bounds what a chart is drawn of.
	maxBuckets = 10_000
	// streamFor bounds an answer, so that a client that reads too slowly does not
	// hold a connection to the database for ever.
	streamFor = 10 * time.Minute
)

type readingsInput struct {
	NamedDevice
	From    time.Time     `query:"from" doc:"From this time on; an hour before until, if absent"`
	Until   time.Time     `query:"until" doc:"Before this time; now, if absent"`
	Metrics []string      `query:"metric,explode" maxItems:"256" doc:"Only these channels"`
	Step    string        `query:"step" doc:"Sum up over steps of this length, as 30s, 5m or 1h" example:"5m"`
	Limit   int           `query:"limit" minimum:"0" doc:"At most so many readings; 0: all"`
	Format  string        `query:"format" enum:"json,ndjson,csv" default:"json"`
	step    time.Duration `json:"-"`
}

// Resolve checks what no single field's rule can.
func (in *readingsInput) Resolve(huma.Context) []error {
	if in.Until.IsZero() {
		in.Until = time.Now()
	}
	if in.From.IsZero() {
		in.From = in.Until.Add(-defaultStretch)
	}
	if !in.From.Before(in.Until) {
		return []error{&huma.ErrorDetail{Message: "must be before until", Location: "query.from", Value: in.From}}
	}
	if in.Step == "" {
		return nil
	}
	var err error
	if in.step, err = time.ParseDuration(in.Step); err != nil || in.step < time.Millisecond {
		return []error{&huma.ErrorDetail{Message: "must be a length of time of at least 1ms, as 30s, 5m or 1h", Location: "query.step", Value: in.Step}}
	}
	if buckets := in.Until.Sub(in.From) / in.step; buckets > maxBuckets {
		return []error{&huma.ErrorDetail{
			Message:  fmt.Sprintf("gives %d steps between from and until; at most %d are allowed", buckets, maxBuckets),
			Location: "query.step", Value: in.Step,
		}}
	}
	if in.Limit != 0 {
		return []error{&huma.ErrorDetail{Message: "can't be used together with step", Location: "query.limit", Value: in.Limit}}
	}
	return nil
}

func (a *API) addReadings() {
	const tag = "readings"
	readings := operation(http.MethodGet, "/devices/{name}/readings", "list-readings", tag, "Read a stretch of time", devices.RoleViewer)
	readings.Description += " In the order of time, as JSON, as one JSON value a line, or as CSV; with step the least, the greatest, the average and the last value of each step, and their number, instead of single readings. " +
		"The answer is streamed. One that breaks off is not complete: as JSON it lacks its closing bracket, in every format the connection is cut."
	registry := a.huma.OpenAPI().Components.Schemas
	either := &huma.Schema{OneOf: []*huma.Schema{
		{Type: huma.TypeArray, Items: registry.Schema(typeOf[Reading](), true, "Reading")},
		{Type: huma.TypeArray, Items: registry.Schema(typeOf[Bucket](), true, "Bucket")},
	}}
	text := &huma.Schema{Type: huma.TypeString}
	readings.Responses = map[string]*huma.Response{"200": {
		Description: "The readings, or the steps",
		Content: map[string]*huma.MediaType{
			"application/json": {Schema: either}, "application/x-ndjson": {Schema: text}, "text/csv": {Schema: text},
		},
	}}
	huma.Register(a.huma, readings, func(ctx context.Context, input *readingsInput) (*huma.StreamResponse, error) {
		if err := a.mustExist(ctx, input.Name); err != nil {
			return nil, err
		}
		select {
		case a.streams <- struct{}{}:
		case <-ctx.Done():
			return nil, a.explain(ctx, ctx.Err())
		}
		return &huma.StreamResponse{Body: func(reply huma.Context) { //nolint:contextcheck // reply has the request's context
			defer func() { <-a.streams }()
			a.stream(reply, input)
		}}, nil
	})

	type latest struct{ Body []Reading }
	huma.Register(a.huma, operation(http.MethodGet, "/devices/{name}/latest", "latest-readings", tag, "Read the last known value of every channel", devices.RoleViewer),
		func(ctx context.Context, input *NamedDevice) (*latest, error) {
			if err := a.mustExist(ctx, input.Name); err != nil {
				return nil, err
			}
			found, err := a.cfg.Reader.Latest(ctx, input.Name)
			if err != nil {
				return nil, a.explain(ctx, err)
			}
			return &latest{convert(found, toReading)}, nil
		})
}

func toReading(r storage.Reading) Reading { return Reading(r) }

// stream answers with readings. After the first byte there is no other way to
// say that something failed than to break off.
func (a *API) stream(reply huma.Context, input *readingsInput) {
	ctx, cancel := context.WithTimeout(reply.Context(), streamFor)
	defer cancel()
	out := bufio.NewWriterSize(reply.BodyWriter(), 32<<10)
	var rows rowWriter
	switch input.Format {
	case "ndjson":
		reply.SetHeader("Content-Type", "application/x-ndjson")
		rows = &jsonRows{out: out, encoder: json.NewEncoder(out), lines: true}
	case "csv":
		reply.SetHeader("Content-Type", "text/csv; charset=utf-8")
		rows = &csvRows{csv.NewWriter(out)}
	default:
		reply.SetHeader("Content-Type", "application/json")
		rows = &jsonRows{out: out, encoder: json.NewEncoder(out)}
	}
	stretch := storage.Stretch{Device: input.Name, From: input.From, Until: input.Until, Metrics: input.Metrics, Limit: input.Limit}
	err := rows.begin(input.step > 0)
	if err == nil && input.step > 0 {
		err = a.cfg.Reader.Downsampled(ctx, stretch, input.step, func(b storage.Bucket) error { return rows.bucket(Bucket(b)) })
	} else if err == nil {
		err = a.cfg.Reader.Readings(ctx, stretch, func(r storage.Reading) error { return rows.reading(Reading(r)) })
	}
	if err == nil {
		err = rows.end()
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		if ctx.Err() == nil {
			a.cfg.Logger.Warn("an answer with readings broke off", "device", input.Name, "error", err)
		}
		panic(http.ErrAbortHandler) // cuts the connection: an answer that looks whole must be
	}
}

// rowWriter writes rows in one format.
type rowWriter interface {
	begin(buckets bool) error
	reading(r Reading) error
	bucket(b Bucket) error
	end() error
}

// jsonRows writes an array, or one value a line.
type jsonRows struct {
	out     io.Writer
	encoder *json.Encoder // ends every value with a line feed
	lines   bool
	count   int
}

func (j *jsonRows) begin(bool) error {
	if j.lines {
		return nil
	}
	_, err := io.WriteString(j.out, "[")
	return err
}

func (j *jsonRows) reading(r Reading) error { return j.row(r) }
func (j *jsonRows) bucket(b Bucket) error   { return j.row(b) }

func (j *jsonRows) row(row any) error {
	if j.count++; j.count > 1 && !j.lines {
		if _, err := io.WriteString(j.out, ","); err != nil {
			return err
		}
	}
	return j.encoder.Encode(row)
}

func (j *jsonRows) end() error {
	if j.lines {
		return nil
	}
	_, err := io.WriteString(j.out, "]\n")
	return err
}

// csvRows writes a line of names and then the rows (RFC 4180).
type csvRows struct{ *csv.Writer }

func (c *csvRows) begin(buckets bool) error {
	if buckets {
		return c.Write([]string{"ts", "metric", "unit", "count", "min", "max", "avg", "last"})
	}
	return c.Write([]string{"ts", "metric", "value", "text", "unit", "seq"})
}

func (c *csvRows) reading(r Reading) error {
	value, text := "", ""
	if r.Value != nil {
		value = number(*r.Value)
	}
	if r.Text != nil {
		text = *r.Text
	}
	return c.Write([]string{r.Time.UTC().Format(time.RFC3339Nano), r.Metric, value, text, r.Unit, strconv.FormatInt(r.Seq, 10)})
}

func (c *csvRows) bucket(b Bucket) error {
	return c.Write([]string{
		b.Start.UTC().Format(time.RFC3339Nano), b.Metric, b.Unit, strconv.FormatInt(b.Count, 10),
		number(b.Min), number(b.Max), number(b.Avg), number(b.Last),
	})
}

func (c *csvRows) end() error {
	c.Flush()
	return c.Error()
}

func number(value float64) string { return strconv.FormatFloat(value, 'g', -1, 64) }
