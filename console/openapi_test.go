package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	validation "github.com/pb33f/libopenapi-validator/errors"
	"github.com/stretchr/testify/require"

	"mooring/devices"
	"mooring/storage"
	"mooring/wire"
)

// described is an operation as the document has it.
type described struct {
	method, path string
	parameters   []parameter
	body         bool
}

type parameter struct {
	Name, In string
	Required bool
}

// generic is a client that knows nothing but the document: it makes requests
// from it, and holds requests and answers against it.
type generic struct {
	*stage
	operations map[string]described
	validator  validator.Validator
	exercised  map[string]bool // answered with success
}

func newGeneric(s *stage) *generic {
	s.Helper()
	served := s.ask("", http.MethodGet, "/openapi.json", nil)
	require.Equal(s, http.StatusOK, served.status)
	document, err := libopenapi.NewDocument([]byte(served.body))
	require.NoError(s, err)
	check, errs := validator.NewValidator(document)
	require.Empty(s, errs)
	c := &generic{stage: s, operations: make(map[string]described), validator: check, exercised: make(map[string]bool)}
	var parsed struct {
		Paths map[string]map[string]struct {
			OperationID string
			Parameters  []parameter
			RequestBody any
		}
	}
	require.NoError(s, json.Unmarshal([]byte(served.body), &parsed))
	for path, methods := range parsed.Paths {
		for method, op := range methods {
			require.NotEmpty(s, op.OperationID, "%s %s", method, path)
			require.NotContains(s, c.operations, op.OperationID)
			c.operations[op.OperationID] = described{strings.ToUpper(method), path, op.Parameters, op.RequestBody != nil}
		}
	}
	return c
}

// call is one use of an operation.
type call struct {
	operation  string
	as         devices.Role // "": nobody
	parameters map[string]string
	body       any
	status     int
	check      func(answer string)
}

func (c *generic) do(u *call) {
	c.Helper()
	op, known := c.operations[u.operation]
	require.True(c, known, "the document has no %s", u.operation)
	path, query := op.path, url.Values{}
	for name, value := range u.parameters {
		at := slices.IndexFunc(op.parameters, func(p parameter) bool { return p.Name == name })
		require.GreaterOrEqual(c, at, 0, "%s has no parameter %s", u.operation, name)
		switch op.parameters[at].In {
		case "path":
			path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(value))
		case "query":
			query.Add(name, value)
		default:
			require.Fail(c, "a parameter in "+op.parameters[at].In)
		}
	}
	require.NotContains(c, path, "{", "%s wants more parameters", u.operation)
	require.Equal(c, op.body, u.body != nil, "%s and a body", u.operation)
	address := c.server.URL + Prefix + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	encoded, err := json.Marshal(u.body)
	require.NoError(c, err)
	request, err := http.NewRequestWithContext(c.Context(), op.method, address, nil)
	require.NoError(c, err)
	if u.body != nil {
		request.Header.Set("Content-Type", "application/json")
		request.Body = io.NopCloser(bytes.NewReader(encoded))
	}
	if u.as != "" {
		request.Header.Set("Authorization", "Bearer "+c.tokens[u.as])
	}
	response, err := c.server.Client().Do(request)
	require.NoError(c, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(c, err)
	require.Equal(c, u.status, response.StatusCode, "%s: %s", u.operation, body)

	response.Body = io.NopCloser(bytes.NewReader(body))
	request.Body = io.NopCloser(bytes.NewReader(encoded))
	if u.status < 400 {
		good, faults := c.validator.ValidateHttpRequestSync(request)
		if !good {
			c.Errorf("%s: what was sent: %s", u.operation, faultsOf(faults))
		}
	}
	if response.Header.Get("Content-Type") == "application/x-ndjson" {
		// The validator takes it for one JSON value; as one it is the array of its lines.
		response.Header.Set("Content-Type", "application/json")
		lines := bytes.Join(bytes.Split(bytes.TrimSpace(body), []byte("\n")), []byte(","))
		response.Body = io.NopCloser(bytes.NewReader(slices.Concat([]byte("["), lines, []byte("]"))))
	}
	good, faults := c.validator.ValidateHttpResponse(request, response)
	if !good {
		c.Errorf("%s: what came back: %.500s\n%s", u.operation, body, faultsOf(faults))
	}
	if u.status < 300 {
		c.exercised[u.operation] = true
	}
	if u.check != nil {
		u.check(string(body))
	}
}

func faultsOf(faults []*validation.ValidationError) string {
	var text strings.Builder
	for _, fault := range faults {
		fmt.Fprintf(&text, "%s: %s\n", fault.Message, fault.Reason)
		for _, part := range fault.SchemaValidationErrors {
			fmt.Fprintf(&text, "  %s: %s\n", part.FieldPath, part.Reason)
		}
	}
	return text.String()
}

// TestDocument: the document is one by the rules of OpenAPI 3.1.
func TestDocument(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	good, faults := newGeneric(s).validator.ValidateDocument()
	require.True(t, good, faultsOf(faults))

	// The validator sees what is wrong.
	text := s.ask("", http.MethodGet, "/openapi.json", nil).body
	document, err := libopenapi.NewDocument([]byte(strings.Replace(text, `"in":"path"`, `"in":"nowhere"`, 1)))
	require.NoError(t, err)
	check, errs := validator.NewValidator(document)
	require.Empty(t, errs)
	good, _ = check.ValidateDocument()
	require.False(t, good)
}

// TestEveryOperation uses every operation of the document through a client that
// is made of the document alone, and holds every answer against its schemas.
func TestEveryOperation(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c := newGeneric(s)
	const viewer, operator, admin = devices.RoleViewer, devices.RoleOperator, devices.RoleAdmin
	valve, nobody := map[string]string{"name": "valve"}, map[string]string{"name": "nobody"}
	with := func(more ...string) map[string]string {
		parameters := maps.Clone(valve)
		for i := 0; i < len(more); i += 2 {
			parameters[more[i]] = more[i+1]
		}
		return parameters
	}
	object := func(pairs ...any) map[string]any {
		body := make(map[string]any)
		for i := 0; i < len(pairs); i += 2 {
			body[pairs[i].(string)] = pairs[i+1]
		}
		return body
	}
	run := func(calls ...call) {
		t.Helper()
		for i := range calls {
			c.do(&calls[i])
		}
	}
	contains := func(parts ...string) func(string) {
		return func(answer string) {
			t.Helper()
			for _, part := range parts {
				require.Contains(t, answer, part)
			}
		}
	}

	run(
		call{"login", "", nil, object("token", s.tokens[viewer]), 200, contains(`"role":"viewer"`)},
		call{"login", "", nil, object("token", "wrong"), 401, nil},
		call{"logout", "", nil, nil, 204, nil},
		call{"me", viewer, nil, nil, 200, contains(`"name":"viewer"`)},
		call{"me", "", nil, nil, 401, nil},
		call{"add-user", admin, nil, object("name", "ann", "role", "operator"), 201, contains(`"token":"mru_`)},
		call{"add-user", admin, nil, object("name", "ann", "role", "operator"), 409, nil},
		call{"list-users", admin, nil, nil, 200, contains(`"ann"`)},
		call{"list-users", viewer, nil, nil, 403, nil},
		call{"remove-user", admin, map[string]string{"name": "ann"}, nil, 204, nil},

		call{"add-device", operator, nil, object("name", "valve", "model", "V2", "labels", object("site", "oslo")), 201, contains(`"token":"mrg_`)},
		call{"add-device", operator, nil, object("name", "two words"), 422, nil},
		call{"change-device", operator, valve, object("labels", object("site", "rome"), "disabled", true), 200, contains(`"state":"disabled"`, `"rome"`)},
		call{"change-device", operator, valve, object("disabled", false), 200, contains(`"state":"offline"`)},
		call{"rotate-token", operator, valve, object("label", "second"), 200, contains(`"token":"mrg_`)},
		call{"show-device", viewer, valve, nil, 200, contains(`"it never connected"`, `"since":null`)},
		call{"list-uptime", viewer, valve, nil, 200, contains(`[]`)},
		call{"list-gaps", viewer, valve, nil, 200, contains(`[]`)},
	)
	c.live("valve")
	run(
		call{"list-devices", viewer, map[string]string{"state": "online", "model": "V2"}, nil, 200, contains(`"online":true`, `"reason":"connected to gw from 192.0.2.7:4711"`)},
		call{"list-devices", viewer, map[string]string{"prefix": "v", "limit": "0"}, nil, 422, nil},
		call{"show-device", viewer, valve, nil, 200, contains(`"online":true`)},
		call{"show-device", viewer, nobody, nil, 404, nil},
		call{"list-sessions", viewer, with("limit", "5"), nil, 200, contains(`"nothing was heard"`, `"online":true`)},
		call{"list-sessions", viewer, nobody, nil, 404, nil},
		call{"list-uptime", viewer, with("zone", "Europe/Oslo"), nil, 200, contains(`"losses":1`)},
		call{"list-uptime", viewer, with("zone", "Middle/Earth"), nil, 422, contains("query.zone")},
		call{"list-uptime", viewer, with("from", "yesterday"), nil, 422, contains("query.from")},
		call{"list-uptime", viewer, nobody, nil, 404, nil},
		call{"list-gaps", viewer, with("longer_than", "1m"), nil, 200, contains(`"kind":"link"`, `"kind":"silent"`, `"reason":"nothing was heard"`)},
		call{"list-gaps", viewer, with("longer_than", "long"), nil, 422, contains("query.longer_than")},
		call{"list-gaps", viewer, with("from", "2020-01-01T00:00:00Z"), nil, 422, contains("31 days")},
		call{"list-gaps", viewer, nobody, nil, 404, nil},
		call{"explain-device", viewer, valve, nil, 200, contains(`"verdict":"online since`)},
		call{"audit", viewer, nil, nil, 200, contains(`"devices":1`, `"balanced":`)},
		call{"audit-device", viewer, valve, nil, 200, contains(`"device":"valve"`, `"received":`)},
		call{"audit-device", viewer, nobody, nil, 404, nil},
		call{"list-layouts", viewer, valve, nil, 200, contains(`"env"`)},
		call{"list-rejects", viewer, valve, nil, 200, contains(`"TYPE"`)},
		call{"list-readings", viewer, with("limit", "3"), nil, 200, contains(`"metric":"a"`)},
		call{"list-readings", viewer, with("step", "1m", "metric", "a"), nil, 200, contains(`"avg":`)},
		call{"list-readings", viewer, with("format", "csv"), nil, 200, contains("ts,metric,")},
		call{"list-readings", viewer, with("format", "ndjson"), nil, 200, nil},
		call{"list-readings", viewer, with("step", "soon"), nil, 422, nil},
		call{"latest-readings", viewer, valve, nil, 200, contains(`"metric":"b"`)},
		call{"list-sparklines", viewer, map[string]string{"device": "valve"}, nil, 200, nil},
		call{"show-fleet", viewer, nil, nil, 200, nil},

		call{"send-command", operator, valve, object("name", "set_interval", "args", object("ms", 500)), 202, contains(`"state":"queued"`)},
		call{"send-command", viewer, valve, object("name", "set_interval"), 403, nil},
		call{"broadcast-command", operator, nil, object("name", "identify", "model", "V2"), 202, contains(`"numbers":[2]`)},
		call{"list-commands", viewer, map[string]string{"device": "valve", "open": "true"}, nil, 200, contains(`"set_interval"`)},
		call{"show-command", viewer, map[string]string{"number": "1"}, nil, 200, contains(`"steps":`)},
		call{"show-command", viewer, map[string]string{"number": "99"}, nil, 404, nil},

		call{"remove-device", admin, valve, nil, 409, nil},
		call{"remove-device", admin, with("purge", "true"), nil, 204, nil},
		call{"remove-device", admin, valve, nil, 404, nil},
	)

	var missing []string
	for name := range c.operations {
		if !c.exercised[name] {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	require.Empty(t, missing, "operations of the document that nothing here uses: add a call for each")
}

// live gives a device a past: a session that ended, and an open one, samples,
// refusals.
func (s *stage) live(device string) {
	s.Helper()
	registry, err := devices.Open(s.Context(), devices.Config{URL: s.dbURL, Gateway: "gw"})
	require.NoError(s, err)
	s.Cleanup(func() { _ = registry.Close(context.WithoutCancel(s.Context())) })
	detail, err := s.admin.Show(s.Context(), device)
	require.NoError(s, err)
	now := time.Now()
	open := func(at time.Time) int64 {
		info, err := registry.OpenSession(s.Context(), devices.SessionStart{
			Device: devices.Device{ID: detail.ID, Name: device, TokenID: detail.Tokens[0].ID}, Remote: "192.0.2.7:4711", Connected: at,
		})
		require.NoError(s, err)
		return info.Session
	}
	registry.EndSession(devices.SessionEnd{
		SessionProgress: devices.SessionProgress{Session: open(now.Add(-time.Hour))},
		Disconnected:    now.Add(-30 * time.Minute), Code: wire.CloseHeartbeat, Reason: "nothing was heard",
	})
	require.Eventually(s, func() bool {
		shown, err := s.admin.Show(s.Context(), device)
		return err == nil && !shown.Online
	}, time.Minute, 10*time.Millisecond)
	open(now.Add(-20 * time.Minute))
	s.write(device, now.Add(-10*time.Minute), 60)
	store, err := storage.Open(s.Context(), storage.Config{URL: s.dbURL})
	require.NoError(s, err)
	store.RecordRejects(detail.ID, []wire.Reject{{Seq: 1, N: 1, Channel: 0, Code: wire.CodeType}}, &wire.Layout{
		Name: "env", Channels: []wire.Channel{{Name: "a"}},
	}, nil)
	require.NoError(s, store.Close(s.Context()))
}
