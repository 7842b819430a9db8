package deploytest_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
)

const (
	root   = "../.."
	secret = "a-secret-from-the-environment"
)

func load(t *testing.T, environment map[string]string, profiles ...string) (*types.Project, error) {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, "docker-compose.yml"))
	require.NoError(t, err)
	return loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  filepath.Dir(path),
		ConfigFiles: []types.ConfigFile{{Filename: path}},
		Environment: environment,
	}, loader.WithProfiles(profiles))
}

func mustLoad(t *testing.T, profiles ...string) *types.Project {
	t.Helper()
	project, err := load(t, map[string]string{"POSTGRES_PASSWORD": secret, "GRAFANA_READER_PASSWORD": secret, "GRAFANA_PASSWORD": secret}, profiles...)
	require.NoError(t, err)
	return project
}

func TestSecretIsRequired(t *testing.T) {
	t.Parallel()
	_, err := load(t, map[string]string{})
	require.ErrorContains(t, err, "POSTGRES_PASSWORD")
	_, err = load(t, map[string]string{"POSTGRES_PASSWORD": ""})
	require.ErrorContains(t, err, "POSTGRES_PASSWORD", "empty is not set")
}

func TestNoLiteralSecrets(t *testing.T) {
	t.Parallel()
	project := mustLoad(t, "demo", "monitoring")
	confidential := regexp.MustCompile(`(?i)password|secret|token$|_key$`)
	seen := 0
	for _, service := range project.Services {
		for name, value := range service.Environment {
			if value == nil {
				continue
			}
			if confidential.MatchString(name) {
				seen++
				require.Equal(t, secret, *value, "%s of %s must come from the environment", name, service.Name)
			}
			require.NotRegexp(t, `://[^/@]*:[^/@]*@`, *value, "%s of %s holds a password", name, service.Name)
		}
	}
	require.GreaterOrEqual(t, seen, 8)
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	require.ElementsMatch(t, []string{"postgres", "mooring"}, mustLoad(t).ServiceNames())
	require.ElementsMatch(t, []string{"postgres", "mooring", "tokens", "fleet"}, mustLoad(t, "demo").ServiceNames())
	require.ElementsMatch(t, []string{"postgres", "mooring", "reader", "prometheus", "grafana"}, mustLoad(t, "monitoring").ServiceNames())
}

func TestHealthAndOrder(t *testing.T) {
	t.Parallel()
	project := mustLoad(t, "demo")
	for _, name := range []string{"postgres", "mooring"} {
		service := project.Services[name]
		require.NotNil(t, service.HealthCheck, name)
		require.NotEmpty(t, service.HealthCheck.Test, name)
		require.False(t, service.HealthCheck.Disable, name)
		require.NotNil(t, service.HealthCheck.Interval, name)
		require.Equal(t, "unless-stopped", service.Restart, name)
		require.NotNil(t, service.StopGracePeriod, name)
	}
	require.Equal(t, types.ServiceConditionHealthy, project.Services["mooring"].DependsOn["postgres"].Condition)
	require.Equal(t, types.ServiceConditionHealthy, project.Services["tokens"].DependsOn["mooring"].Condition)
	require.Equal(t, types.ServiceConditionCompletedSuccessfully, project.Services["fleet"].DependsOn["tokens"].Condition)
}

// pinned is an image with a full version: two runs a month apart are the same.
var pinned = regexp.MustCompile(`^[a-z0-9./-]+:(v?[0-9]+\.[0-9]+[a-z0-9.-]*|nonroot)$`)

func TestImagesArePinned(t *testing.T) {
	t.Parallel()
	for _, service := range mustLoad(t, "demo", "monitoring").Services {
		if service.Build != nil {
			require.Equal(t, "mooring:local", service.Image)
			continue
		}
		require.Regexp(t, pinned, service.Image, service.Name)
	}
	for _, image := range regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(dockerfile(t), -1) {
		require.Regexp(t, pinned, image[1])
	}
	require.NotRegexp(t, pinned, "postgres:latest")
	require.NotRegexp(t, pinned, "postgres:17")
	require.NotRegexp(t, pinned, "postgres")
}

func TestServersRunWithFewRights(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"mooring", "tokens", "fleet"} {
		service := mustLoad(t, "demo").Services[name]
		require.True(t, service.ReadOnly, name)
		require.Equal(t, []string{"ALL"}, service.CapDrop, name)
		require.False(t, service.Privileged, name)
	}
	text := dockerfile(t)
	require.Contains(t, text, "CGO_ENABLED=0")
	require.Contains(t, text, "HEALTHCHECK")
	require.Regexp(t, `(?m)^USER nonroot`, text)
	require.Less(t, strings.Index(text, "USER nonroot"), strings.Index(text, "ENTRYPOINT"))
}

// The image is built with a toolchain of the series that go.mod names, pinned to
// one patch release.
func TestDockerfileUsesTheModulesToolchain(t *testing.T) {
	t.Parallel()
	module, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(module)
	require.NotNil(t, version)
	require.Regexp(t, `FROM golang:`+regexp.QuoteMeta(string(version[1]))+`\.\d+-`, dockerfile(t))
}

func dockerfile(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	require.NoError(t, err)
	return string(text)
}
