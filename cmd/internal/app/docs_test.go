package app

import (
	"context"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
)

const operations = "../../../docs/OPERATIONS.md"

var writing sync.Mutex // both tests write the same file when they update it

// checkSection compares the part of OPERATIONS.md between two markers with what
// it should be; with UPDATE_DOCS=1 it writes it instead.
func checkSection(t *testing.T, name, want string) {
	t.Helper()
	writing.Lock()
	defer writing.Unlock()
	text, err := os.ReadFile(operations)
	require.NoError(t, err)
	section := regexp.MustCompile(`(?s)(<!-- ` + name + `: written by \w+ -->\n)(.*)(<!-- /` + name + ` -->)`)
	found := section.FindSubmatch(text)
	require.NotNil(t, found, "no section %s", name)
	if os.Getenv("UPDATE_DOCS") != "" {
		head, tail := section.FindSubmatchIndex(text)[3], section.FindSubmatchIndex(text)[6]
		updated := string(text[:head]) + want + string(text[tail:])
		require.NoError(t, os.WriteFile(operations, []byte(updated), 0o644))
		return
	}
	require.Equal(t, want, string(found[2]), "docs/OPERATIONS.md is not up to date: run UPDATE_DOCS=1 go test ./cmd/internal/app")
}

// settings lists the fields of a struct and of those embedded in it.
func settings(structure reflect.Type) []reflect.StructField {
	var fields []reflect.StructField
	for field := range structure.Fields() {
		switch {
		case field.Anonymous:
			fields = append(fields, settings(field.Type)...)
		case field.Tag.Get("kong") != "-":
			fields = append(fields, field)
		}
	}
	return fields
}

// flagName is a field's flag, as kong names it.
func flagName(field reflect.StructField) string {
	if name := field.Tag.Get("name"); name != "" {
		return name
	}
	return strings.ToLower(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(field.Name, "$1-$2"))
}

func TestOperationsListsSettings(t *testing.T) {
	t.Parallel()
	var table strings.Builder
	table.WriteString("| flag and key | environment | default | |\n|---|---|---|---|\n")
	for _, field := range settings(reflect.TypeFor[Config]()) {
		flag, variable, help := flagName(field), field.Tag.Get("env"), field.Tag.Get("help")
		require.Equal(t, "MOORING_"+strings.ToUpper(strings.ReplaceAll(flag, "-", "_")), variable, "variables are named after flags")
		require.NotEmpty(t, help, flag)
		require.NotEmpty(t, field.Tag.Get("group"), flag)
		standard := ""
		if text := field.Tag.Get("default"); text != "" {
			standard = "`" + text + "`"
		}
		help = strings.ReplaceAll(help, "${data_dir}", "/var/lib/mooring for root, else the user's data directory")
		fmt.Fprintf(&table, "| `--%s` | `%s` | %s | %s |\n", flag, variable, standard, help)
	}
	checkSection(t, "settings", table.String())
}

// recorder notes what is registered.
type recorder struct {
	prometheus.Registerer
	mu   sync.Mutex
	help map[string]string
}

var descriptor = regexp.MustCompile(`fqName: "([^"]+)", help: "([^"]*)"`)

func (r *recorder) Register(collector prometheus.Collector) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	descriptions := make(chan *prometheus.Desc, 1000)
	collector.Describe(descriptions)
	close(descriptions)
	for description := range descriptions {
		if found := descriptor.FindStringSubmatch(description.String()); found != nil {
			r.help[found[1]] = found[2]
		}
	}
	return r.Registerer.Register(collector)
}

func (r *recorder) MustRegister(collectors ...prometheus.Collector) {
	for _, collector := range collectors {
		if err := r.Register(collector); err != nil {
			panic(err)
		}
	}
}

func TestOperationsListsMetrics(t *testing.T) {
	t.Parallel()
	a := New(Config{Listen: "127.0.0.1:0", Doors: Doors{AdminListen: "127.0.0.1:0"}, Location: Location{DatabaseURL: pgtest.URL(t)}, Gateway: t.Name()})
	seen := &recorder{Registerer: a.registry, help: map[string]string{}}
	a.registerer = seen
	require.NoError(t, a.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, a.Stop(context.Background())) })

	// What is shown must have been seen; a part with a registry of its own
	// would not be in /metrics.
	_, shown := getAdmin(t, a, "/metrics")
	for line := range strings.SplitSeq(shown, "\n") {
		if name, ok := strings.CutPrefix(line, "# TYPE mooring_"); ok {
			require.Contains(t, seen.help, "mooring_"+strings.Fields(name)[0])
		}
	}
	var table strings.Builder
	table.WriteString("| metric | |\n|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(seen.help)) {
		if strings.HasPrefix(name, "mooring_") {
			require.NotEmpty(t, seen.help[name], name)
			fmt.Fprintf(&table, "| `%s` | %s |\n", name, seen.help[name])
		}
	}
	checkSection(t, "metrics", table.String())
}
