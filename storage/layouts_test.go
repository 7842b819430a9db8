package storage

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/wire"
)

func TestLayoutsOfTheSameContentAreOne(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	same := wire.Layout{Number: 99, Name: mixedLayout.Name, Channels: append([]wire.Channel(nil), mixedLayout.Channels...)}
	same.Channels[0].Exp10 = -2
	id, err := f.ResolveLayout(t.Context(), f.devices[1], &same)
	require.NoError(t, err)
	require.Equal(t, f.mixed, id)
	same.Channels[0].Unit = "K"
	other, err := f.ResolveLayout(t.Context(), f.devices[1], &same)
	require.NoError(t, err)
	require.NotEqual(t, f.mixed, other)
	require.Equal(t, 2, one[int](t, f.url, "SELECT count(*) FROM mooring.device_layouts WHERE device_id = $1", f.devices[1]))
}

func TestLayoutLimits(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t), func(c *Config) { c.MaxLayouts, c.MaxLayoutsPerDevice = 6, 3 })
	declare := func(device int32, n int) error {
		_, err := f.ResolveLayout(t.Context(), device, &wire.Layout{Name: "l", Channels: []wire.Channel{{Name: fmt.Sprint("c", n)}}})
		return err
	}
	require.NoError(t, declare(f.devices[0], 1)) // its third
	require.ErrorIs(t, declare(f.devices[0], 2), ErrLayoutRefused)
	require.NoError(t, declare(f.devices[0], 1))
	require.NoError(t, declare(f.devices[1], 3))
	require.NoError(t, declare(f.devices[1], 4))
	require.NoError(t, declare(f.devices[1], 5))
	require.ErrorIs(t, declare(f.devices[2], 6), ErrLayoutRefused)
	require.NoError(t, declare(f.devices[2], 5), "a layout that is there may be used")
	require.Equal(t, 6, one[int](t, f.url, "SELECT count(*) FROM mooring.layouts"), "what is refused leaves nothing behind")
}

func TestKnownLayoutsAreLoadedAtStart(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	store, err := Open(t.Context(), Config{URL: f.url})
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close(t.Context())) }()
	unasked, cancel := context.WithCancel(t.Context())
	cancel() // a query would fail
	id, err := store.ResolveLayout(unasked, f.devices[0], &mixedLayout)
	require.NoError(t, err, "answered from memory")
	require.Equal(t, f.mixed, id)
	_, err = store.ResolveLayout(unasked, 9999, &mixedLayout)
	require.Error(t, err, "a device that is new to the layout is put on record")
}

func TestLayoutThatPostgresCannotStore(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	_, err := f.ResolveLayout(t.Context(), f.devices[0], &wire.Layout{Name: "a\x00b", Channels: []wire.Channel{{Name: "c"}}})
	require.ErrorIs(t, err, ErrLayoutRefused)
}

// view waits until the layout's view covers so many versions, and returns its
// columns with their types.
func (f *fixture) view(t *testing.T, layout string, versions int) string {
	t.Helper()
	require.Eventually(t, func() bool {
		return one[int](t, f.url, "SELECT coalesce(max(versions), 0) FROM mooring.layout_views WHERE layout = $1", layout) == versions
	}, time.Minute, 10*time.Millisecond)
	return one[string](t, f.url, `SELECT coalesce(string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum), '')
		FROM pg_attribute WHERE attrelid = to_regclass('mooring_layout.' || quote_ident($1)) AND attnum > 0`, viewName(layout))
}

func (f *fixture) problem(t *testing.T, layout string) string {
	t.Helper()
	return one[string](t, f.url, "SELECT coalesce(problem, '') FROM mooring.layout_views WHERE layout = $1", layout)
}

const viewHead = "ts timestamp with time zone, device text, seq bigint"

func TestWideView(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	require.Equal(t, viewHead+", temperature double precision, burning boolean, state text", f.view(t, "boiler", 1))
	require.Empty(t, f.problem(t, "boiler"))
	var b batch
	b.add(f.devices[0], f.mixed, 1, base, number(20), boolean(true), text("on"))
	f.write(t, &b)

	// A later version: other order, one channel more, one of another kind.
	wider := wire.Layout{Name: "boiler", Channels: []wire.Channel{
		{Name: "state"}, {Name: "pressure", Unit: "bar"}, {Name: "temperature", Unit: "°C"},
	}}
	id, err := f.ResolveLayout(t.Context(), f.devices[1], &wider)
	require.NoError(t, err)
	require.Equal(t, viewHead+", temperature double precision, burning boolean, state text, state_number double precision, pressure double precision",
		f.view(t, "boiler", 2))
	require.Contains(t, f.problem(t, "boiler"), `channel "state" (number) is column "state_number"`)
	b = batch{}
	b.add(f.devices[1], id, 1, base+1, number(3), number(1.5), number(30))
	f.write(t, &b)
	require.Equal(t, "dev-1 20 true on - -|dev-2 30 - - 3 1.5", one[string](t, f.url,
		`SELECT string_agg(concat_ws(' ', device, coalesce(temperature::text, '-'), coalesce(burning::text, '-'), coalesce(state, '-'),
		coalesce(state_number::text, '-'), coalesce(pressure::text, '-')), '|' ORDER BY ts) FROM mooring_layout.boiler`))
	require.Equal(t, "unit: bar", one[string](t, f.url, "SELECT col_description('mooring_layout.boiler'::regclass, 8)"))
}

// Names that could break something do not.
func TestWideViewsWithAwkwardNames(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	long := strings.Repeat("x", 60)
	var many []wire.Channel
	for i := range 1700 {
		many = append(many, wire.Channel{Name: fmt.Sprint("c", i)})
	}
	for _, layout := range []wire.Layout{
		{Name: "samples", Channels: []wire.Channel{{Name: "ts"}, {Name: "device", Kind: wire.KindText}, {Name: "seq"}, {Name: "ctid"}, {Name: "ts_number"}}},
		{Name: "Case.d-/", Channels: []wire.Channel{{Name: "A"}, {Name: "a"}, {Name: "a", Kind: wire.KindBool}, {Name: "a"}}},
		{Name: long + "1234", Channels: []wire.Channel{{Name: long + "1234"}, {Name: long + "1235"}}},
		{Name: long + "1235", Channels: []wire.Channel{{Name: "a", Unit: `it's "quoted" \`}}},
		{Name: "many", Channels: many},
		{Name: "", Channels: []wire.Channel{{Name: "a"}}},
	} {
		_, err := f.ResolveLayout(t.Context(), f.devices[0], &layout)
		require.NoError(t, err, layout.Name)
	}
	require.Equal(t, viewHead+", ts_number double precision, device_text text, seq_number double precision, "+
		"ctid double precision, ts_number_number double precision", f.view(t, "samples", 1))
	require.Equal(t, viewHead+", \"A\" double precision, a double precision, a_bool boolean, a_number double precision",
		strings.Replace(f.view(t, "Case.d-/", 1), "A double", `"A" double`, 1))
	require.Contains(t, f.view(t, long+"1234", 1), long[:54]+"_")
	require.NotEqual(t, viewName(long+"1234"), viewName(long+"1235"))
	require.NotEmpty(t, f.view(t, long+"1235", 1))
	require.Contains(t, f.problem(t, long+"1235"), "Postgres can't take the layout's name")
	require.Contains(t, f.view(t, "many", 1), "c1496 double")
	require.Contains(t, f.problem(t, "many"), "first 1500 channels")
	require.NotEmpty(t, f.view(t, "", 1))
	require.Zero(t, one[int](t, f.url, "SELECT count(*) FROM mooring.samples"), "the table is still the table")
}

// A view that somebody put in the way is told, and hinders nothing.
func TestWideViewThatPostgresRefuses(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	execute(t, url, "CREATE TABLE mooring_layout.mine (x int)")
	f := newFixture(t, url)
	id, err := f.ResolveLayout(t.Context(), f.devices[0], &wire.Layout{Name: "mine", Channels: []wire.Channel{{Name: "a"}}})
	require.NoError(t, err)
	require.Equal(t, "x integer", f.view(t, "mine", 1))
	require.Contains(t, f.problem(t, "mine"), "Postgres refuses the view")
	var b batch
	b.add(f.devices[0], id, 1, base, number(1))
	require.Empty(t, f.write(t, &b))
}

// Views that a crash left undone are made at the next start.
func TestViewsAreMadeUpForAtStart(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	f := newFixture(t, url)
	f.view(t, "boiler", 1)
	execute(t, url, "DROP VIEW mooring_layout.boiler", "DELETE FROM mooring.layout_views")
	next := newFixture(t, url)
	require.NotEmpty(t, next.view(t, "boiler", 1))
}

// That views can't be made for the time being, because an administrator forbids
// changes of the schema for a night, say, is no fault of a view: it is made later.
func TestViewsWaitUntilTheyMayBeMade(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	super := pgtest.SuperuserURL(t, url)
	execute(t, super, `CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$
		BEGIN RAISE EXCEPTION 'not now'; END$$`,
		"CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE VIEW') EXECUTE FUNCTION public.refuse()")
	f := newFixture(t, url)
	require.ErrorContains(t, f.views.makeOne(t.Context(), "boiler"), "not now")
	require.Zero(t, one[int](t, url, "SELECT count(*) FROM mooring.layout_views"))
	execute(t, super, "DROP EVENT TRIGGER refuse")
	require.NotEmpty(t, f.view(t, "boiler", 1))
	require.Empty(t, f.problem(t, "boiler"))
}
