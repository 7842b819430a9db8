package console

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/devices"
)

// TestAddressesAreText: what PostgreSQL takes for no text is the asker's fault, and
// said so by name, not the database's.
func TestAddressesAreText(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	_, _, err := s.admin.Add(t.Context(), devices.NewDevice{Name: "valve"})
	require.NoError(t, err)
	for path, where := range map[string]string{
		"/devices?model=%ff": "query.model", "/devices?after=%ff": "query.after", "/devices?label=a%3D%00": "query.label", "/devices?%ff=x": "query.",
		"/devices/valve/readings?metric=a&metric=%ff": "query.metric", "/commands?device=%c3": "query.device", "/sparklines?device=%ed%a0%80": "query.device",
		"/devices/%ff": "path", "/devices/%00/why": "path", "/devices/%ff/readings": "path",
	} {
		got := s.ask(devices.RoleViewer, http.MethodGet, path, nil)
		s.requireProblem(got, http.StatusUnprocessableEntity, "must be UTF-8 text without U+0000")
		require.Contains(t, got.body, `"location":"`+where, path)
	}
	s.requireProblem(s.ask(devices.RoleOperator, http.MethodPost, "/devices/%ff/rotate", map[string]any{}), http.StatusUnprocessableEntity, "path")
	s.requireProblem(s.ask(devices.RoleViewer, http.MethodGet, "/devices/%e2%82%ac", nil), http.StatusNotFound, "no such device")
}
