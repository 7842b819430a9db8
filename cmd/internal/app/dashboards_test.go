package app

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"mooring/internal/deploy"
)

var (
	metricName    = regexp.MustCompile(`\b(?:mooring|go|process)_[a-z0-9_]+\b`)
	metricMatcher = regexp.MustCompile(`\b((?:mooring|go|process)_[a-z0-9_]+)\{([^}]*)\}`)
	matchedLabel  = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
	grouping      = regexp.MustCompile(`by \(([^)]*)\)`)
	labelNames    = regexp.MustCompile(`(\w+)="|variableLabels: \{([^}]*)\}`)
)

// exported are the metrics of a running server with their labels.
func exported(t *testing.T) map[string][]string {
	t.Helper()
	a := New(newTLSFiles(t).config(t)) // with TLS there are metrics of its certificate
	a.cfg.AdminListen = "127.0.0.1:0"
	seen := &labelRecorder{recorder: recorder{Registerer: a.registry, help: map[string]string{}}, labels: map[string][]string{}}
	a.registerer = seen
	require.NoError(t, a.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, a.Stop(context.Background())) })

	// The runtime's and the process's are not registered by the parts.
	families, err := a.registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if _, known := seen.labels[family.GetName()]; !known {
			seen.labels[family.GetName()] = []string{}
		}
	}
	return seen.labels
}

// labelRecorder notes the labels of what is registered, too.
type labelRecorder struct {
	recorder
	labels map[string][]string
}

func (r *labelRecorder) Register(collector prometheus.Collector) error {
	descriptions := make(chan *prometheus.Desc, 1000)
	collector.Describe(descriptions)
	close(descriptions)
	for description := range descriptions {
		text := description.String()
		name := descriptor.FindStringSubmatch(text)
		if name == nil {
			continue
		}
		_, labels, _ := strings.Cut(text, "constLabels")
		r.mu.Lock()
		for _, found := range labelNames.FindAllStringSubmatch(labels, -1) {
			r.labels[name[1]] = append(r.labels[name[1]], found[1])
			r.labels[name[1]] = append(r.labels[name[1]], strings.Split(found[2], ",")...)
		}
		r.mu.Unlock()
	}
	return r.recorder.Register(collector)
}

func (r *labelRecorder) MustRegister(collectors ...prometheus.Collector) {
	for _, collector := range collectors {
		if err := r.Register(collector); err != nil {
			panic(err)
		}
	}
}

// TestDashboardsAndAlertsAskForWhatIsExported: a panel or an alert about a
// metric that no server exports, or a label it lacks, would be silent for ever.
func TestDashboardsAndAlertsAskForWhatIsExported(t *testing.T) {
	t.Parallel()
	queries, err := deploy.Queries()
	require.NoError(t, err)
	alerts, err := deploy.Alerts()
	require.NoError(t, err)
	expressions := map[string]string{}
	for _, query := range queries {
		if query.Source == deploy.Prometheus {
			expressions[query.Dashboard+", "+query.Where+": "+query.Text] = query.Text
		}
	}
	for _, alert := range alerts {
		expressions[alert.Name] = alert.Expression
	}
	known := exported(t)
	family := func(name string) string {
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, cut := strings.CutSuffix(name, suffix); cut && known[base] != nil {
				return base
			}
		}
		return name
	}
	ofPrometheus := []string{"job", "instance", "le"} // it adds these itself
	checked := 0
	for where, expression := range expressions {
		all := ofPrometheus
		for _, name := range metricName.FindAllString(expression, -1) {
			checked++
			require.Contains(t, known, family(name), where)
			all = slices.Concat(all, known[family(name)])
		}
		for _, found := range grouping.FindAllStringSubmatch(expression, -1) {
			require.Subset(t, all, strings.Split(found[1], ", "), where)
		}
		for _, found := range metricMatcher.FindAllStringSubmatch(expression, -1) {
			for _, label := range matchedLabel.FindAllStringSubmatch(found[2], -1) {
				require.Contains(t, slices.Concat(ofPrometheus, known[family(found[1])]), label[1], where)
			}
		}
	}
	require.Greater(t, checked, 40)
}
