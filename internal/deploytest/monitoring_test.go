package deploytest_test

import (
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"mooring/internal/deploy"
	"mooring/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const monitoring = "monitoring"

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := deploy.Files.ReadFile(name)
	require.NoError(t, err)
	return string(text)
}

// What compose mounts is there, and read-only.
func TestMountedFilesExist(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, service := range mustLoad(t, monitoring).Services {
		for _, mount := range service.Volumes {
			if mount.Type != types.VolumeTypeBind {
				continue
			}
			seen++
			_, err := os.Stat(mount.Source)
			require.NoError(t, err, service.Name)
			require.True(t, mount.ReadOnly, "%s: %s", service.Name, mount.Source)
		}
	}
	require.Equal(t, 4, seen)
}

// Prometheus scrapes the address at which the server shows its figures, and
// neither it nor the server's pages nor Grafana are open to other machines.
func TestFiguresStayInside(t *testing.T) {
	t.Parallel()
	project := mustLoad(t, monitoring)
	admin := project.Services["mooring"].Environment["MOORING_ADMIN_LISTEN"]
	require.NotNil(t, admin)
	require.Contains(t, read(t, "prometheus/prometheus.yml"), `"mooring`+*admin+`"`)
	for _, port := range project.Services["mooring"].Ports {
		require.NotEqual(t, strings.TrimPrefix(*admin, ":"), port.Published)
		require.EqualValues(t, 8080, port.Target)
	}
	for _, name := range []string{"prometheus", "grafana"} {
		require.NotEmpty(t, project.Services[name].Ports)
		for _, port := range project.Services[name].Ports {
			require.Equal(t, "127.0.0.1", port.HostIP, name)
		}
	}
	require.Equal(t, types.ServiceConditionCompletedSuccessfully, project.Services["grafana"].DependsOn["reader"].Condition)
}

type dataSources struct {
	Sources []struct {
		UID, Type, URL, User string
		Secure               map[string]string `yaml:"secureJsonData"`
		Data                 map[string]any    `yaml:"jsonData"`
	} `yaml:"datasources"`
}

func sources(t *testing.T) dataSources {
	t.Helper()
	var found dataSources
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "grafana/provisioning/datasources/mooring.yml")), &found))
	return found
}

// Every query goes to a data source that is provisioned, of the right kind, and
// no secret is written down.
func TestDataSources(t *testing.T) {
	t.Parallel()
	kinds := map[string]string{}
	project := mustLoad(t, monitoring)
	for _, source := range sources(t).Sources {
		kinds[source.UID] = source.Type
		for name, value := range source.Secure {
			variable, isVariable := strings.CutPrefix(value, "$")
			require.True(t, isVariable, "%s must come from the environment", name)
			require.Contains(t, project.Services["grafana"].Environment, variable)
			require.Contains(t, project.Services["reader"].Environment, variable)
		}
		host, _, found := strings.Cut(strings.TrimPrefix(source.URL, "http://"), ":")
		require.True(t, found)
		require.Contains(t, project.ServiceNames(), host)
	}
	queries, err := deploy.Queries()
	require.NoError(t, err)
	for _, query := range queries {
		require.Equal(t, query.Source, kinds[query.SourceUID], "%s, %s", query.Dashboard, query.Where)
		require.NotEmpty(t, query.Text, "%s, %s", query.Dashboard, query.Where)
	}
	names, err := deploy.Dashboards()
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"fleet", "device", "server"}, names)
}

// Both passwords are asked for by the service that all of Grafana waits for.
func TestMonitoringPasswordsAreRequired(t *testing.T) {
	t.Parallel()
	script := strings.ReplaceAll(mustLoad(t, monitoring).Services["reader"].Command[0], "$$", "$")
	script = strings.Replace(script, "exec psql", "echo psql", 1)
	for _, missing := range []string{"GRAFANA_READER_PASSWORD", "GF_SECURITY_ADMIN_PASSWORD", ""} {
		command := exec.Command("/bin/sh", "-ec", script)
		for _, name := range []string{"GRAFANA_READER_PASSWORD", "GF_SECURITY_ADMIN_PASSWORD"} {
			value := secret
			if name == missing {
				value = ""
			}
			command.Env = append(command.Env, name+"="+value)
		}
		output, err := command.CombinedOutput()
		require.Equal(t, missing == "", err == nil, "%s: %s", missing, output)
		require.NotContains(t, string(output), secret)
	}
}

// The login that reader.sql makes can read and can't write; a second run, with
// another password, changes the password alone.
func TestReaderLogin(t *testing.T) {
	t.Parallel()
	database := pgtest.Cluster(t)
	psql := func(address, password string, arguments ...string) (string, error) {
		command := exec.Command(psqlProgram(t), append([]string{"--no-psqlrc", "--quiet", "--tuples-only", "--no-align", address}, arguments...)...)
		command.Env = append(os.Environ(), "GRAFANA_READER_PASSWORD="+password, "PGPASSWORD="+password)
		output, err := command.CombinedOutput()
		return strings.TrimSpace(string(output)), err
	}
	parsed, err := url.Parse(database.SuperuserURL(t))
	require.NoError(t, err)
	login, superuser := *parsed, parsed.String()
	login.User = url.User(sources(t).Sources[0].User)
	for _, password := range []string{"first 'quoted' one", "second"} {
		output, err := psql(superuser, password, "--file", "../deploy/grafana/reader.sql")
		require.NoError(t, err, output)
		output, err = psql(login.String(), password, "--command", "SELECT count(*) FROM device_status")
		require.NoError(t, err, output)
		require.Equal(t, "0", output)
	}
	output, err := psql(login.String(), "first 'quoted' one", "--command", "SELECT 1")
	require.Error(t, err, output)
	for _, forbidden := range []string{"SELECT * FROM tokens", "DELETE FROM samples", "SET transaction_read_only = off; CREATE TABLE t ()", "SELECT mooring.grant_reads()"} {
		output, err = psql(login.String(), "second", "--command", forbidden)
		require.Error(t, err, "%s: %s", forbidden, output)
	}
}

// psqlProgram is the psql of the PostgreSQL that the tests use.
func psqlProgram(t *testing.T) string {
	t.Helper()
	if found, err := exec.LookPath("psql"); err == nil {
		return found
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/psql")
	require.NoError(t, err)
	if len(found) == 0 {
		skipWithout(t, "psql")
	}
	return found[0]
}

// skipWithout ends a test that lacks a program: a laptop is excused, CI is not.
func skipWithout(t *testing.T, program string) {
	t.Helper()
	require.NotEqual(t, "true", os.Getenv("CI"), "%s is not installed", program)
	t.Skipf("%s is not installed", program)
}

func promtool(t *testing.T, arguments ...string) {
	t.Helper()
	program, err := exec.LookPath("promtool")
	if errors.Is(err, exec.ErrNotFound) {
		skipWithout(t, "promtool (Debian: prometheus)")
	}
	output, err := exec.Command(program, arguments...).CombinedOutput()
	require.NoError(t, err, string(output))
}

// Prometheus' own tool reads the configuration and the rules, and sees each
// alert fire when it must and for whom it must.
func TestAlerts(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "config", "../deploy/prometheus/prometheus.yml")
	promtool(t, "test", "rules", "../deploy/prometheus/alerts_test.yml")
	alerts, err := deploy.Alerts()
	require.NoError(t, err)
	require.Greater(t, len(alerts), 10)
	tests := read(t, "prometheus/alerts_test.yml")
	for _, alert := range alerts {
		require.Regexp(t, `alertname: `+alert.Name+`\n\s+exp_alerts:\n\s+- exp_labels`, tests)
	}
}

// Each alert names a runbook, which exists; no runbook is left of an alert that
// does not.
func TestRunbooks(t *testing.T) {
	t.Parallel()
	operations, err := os.ReadFile(filepath.Join(root, "docs/OPERATIONS.md"))
	require.NoError(t, err)
	var headings []string
	for _, found := range regexp.MustCompile(`(?m)^### (Mooring\w+)\n\n(.+)`).FindAllStringSubmatch(string(operations), -1) {
		headings = append(headings, found[1])
	}
	var named []string
	alerts, err := deploy.Alerts()
	require.NoError(t, err)
	for _, alert := range alerts {
		named = append(named, alert.Name)
		require.Equal(t, "docs/OPERATIONS.md#"+strings.ToLower(alert.Name), alert.Annotations["runbook"])
		require.NotEmpty(t, alert.Annotations["summary"], alert.Name)
		require.Contains(t, []string{"critical", "warning"}, alert.Labels["severity"], alert.Name)
	}
	require.ElementsMatch(t, named, headings)
}

// Prometheus can read what the dashboards ask it: each query stands for a rule.
func TestPanelsOfPrometheus(t *testing.T) {
	t.Parallel()
	queries, err := deploy.Queries()
	require.NoError(t, err)
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var rules []rule
	for _, query := range queries {
		if query.Source == deploy.Prometheus && !strings.HasPrefix(query.Where, "$") {
			text := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*").Replace(query.Text)
			require.NotContains(t, text, "$")
			rules = append(rules, rule{"of_a_panel", text})
		}
	}
	require.Greater(t, len(rules), 20)
	file, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "panels", "rules": rules}}})
	require.NoError(t, err)
	name := filepath.Join(t.TempDir(), "panels.yml")
	require.NoError(t, os.WriteFile(name, file, 0o600))
	promtool(t, "check", "rules", "--lint=none", name)
}
