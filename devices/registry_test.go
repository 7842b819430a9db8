package devices

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

func TestOpenFailsCleanlyAndCanBeTriedAgain(t *testing.T) {
	t.Parallel()
	registerer := prometheus.NewRegistry()
	open := func(url, gateway string) error {
		r, err := Open(t.Context(), Config{URL: url, Gateway: gateway, Registerer: registerer})
		if err == nil {
			require.NoError(t, r.Close(t.Context()))
		}
		return err
	}
	url := pgtest.URL(t)
	require.ErrorContains(t, open("", "g"), "URL")
	require.ErrorContains(t, open(url, ""), "Gateway")
	require.ErrorContains(t, open("postgres://user:secret@127.0.0.1:1/x?sslmode=disable", "g"), "refused")
	err := open("postgres://user:secret@host:port/x", "g")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret")
	require.ErrorContains(t, open(pgtest.EmptyURL(t), "g"), "gateways", "not migrated")
	for range 2 {
		require.NoError(t, open(url, "g"))
	}
	families, err := registerer.Gather()
	require.NoError(t, err)
	require.Empty(t, families)
}

func TestMetricsTell(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	registerer := prometheus.NewRegistry()
	admin := openAdmin(t, url)
	r := openRegistry(t, url, func(c *Config) { c.Registerer = registerer })
	d := add(t, admin, "a")
	for range 3 {
		_, err := r.Authenticate(t.Context(), Credential{Token: d.Token})
		require.NoError(t, err)
	}
	openSession(t, r, d.Device)
	require.NoError(t, admin.Disable(t.Context(), "a"))
	values := func() map[string]float64 {
		families, err := registerer.Gather()
		require.NoError(t, err)
		values := make(map[string]float64)
		for _, family := range families {
			for _, m := range family.GetMetric() {
				name := []string{family.GetName()}
				for _, label := range m.GetLabel() {
					name = append(name, label.GetValue())
				}
				values[strings.Join(name, " ")] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
		return values
	}
	eventually(t, func() bool { return values()["mooring_devices_notifications_total disabled"] == 1 }, "heard")
	got := values()
	for name, want := range map[string]float64{
		"mooring_devices_credential_lookups_total hit":  2,
		"mooring_devices_credential_lookups_total miss": 1,
		"mooring_devices_credential_batch_size":         1,
		"mooring_devices_queries_total authenticate":    1,
		"mooring_devices_queries_total open sessions":   1,
		"mooring_devices_sessions_opened_total":         1,
		"mooring_devices_sessions_open":                 1,
		"mooring_devices_sessions_unwritten_ends":       0,
		"mooring_devices_credentials_cached":            0,
	} {
		require.InDelta(t, want, got[name], 0, name)
	}
	require.Positive(t, got["mooring_devices_notification_delay_seconds"])
}

func TestTokensAreNeverLogged(t *testing.T) {
	t.Parallel()
	// The only text of a token that leaves this package is what Add, AddMany and
	// Rotate return. A failed insertion is the likeliest leak: parameters in errors.
	url := pgtest.URL(t)
	admin := openAdmin(t, url)
	exec(t, sql(t, url), `ALTER TABLE mooring.tokens ADD CHECK (label = 'impossible')`)
	exec(t, sql(t, url), `ALTER TABLE mooring.tokens ALTER label SET NOT NULL`)
	_, token, err := admin.Add(t.Context(), NewDevice{Name: "a", TokenLifetime: time.Hour})
	require.Error(t, err)
	require.Empty(t, token)
	require.NotContains(t, err.Error(), tokenPrefix)
}
