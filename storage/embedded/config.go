package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"time"
)

// Config says where the cluster lives and how it runs.
type Config struct {
	// DataDir is the directory that holds everything, see the package comment.
	// It is created if missing. Required, unless Throwaway.
	DataDir string

	// BinDir is the directory with initdb and postgres. Defaults to what
	// FindInstallation finds.
	BinDir string

	// User is the account that runs Postgres when this process is root. It is
	// ignored otherwise, and for an existing cluster, which its owner runs.
	// Defaults to the owner of the data directory if that is not root, else
	// "postgres" if there is such a user, else "nobody".
	User string

	// Port is the TCP port on 127.0.0.1. Defaults to the port used last, else
	// to a free one.
	Port int

	// Settings are parameters of postgresql.conf which override this package's.
	// Values are plain text and quoted here. Defaults to none.
	Settings map[string]string

	// Throwaway makes a cluster that dies with this process, however it dies,
	// and whose directory is removed by Stop, or by a small watchdog process
	// when this one is killed. DataDir must be empty or missing then; without
	// one, a temporary directory is made. Defaults to false.
	Throwaway bool

	// Unsafe switches fsync off. Fit for unit tests only: what is committed
	// survives the death of any process, but not that of the machine. Defaults
	// to false.
	Unsafe bool

	// Download is the Maven repository from which PostgreSQL is fetched if none
	// is installed, or DownloadNever. Defaults to Maven Central.
	Download string

	// StartTimeout bounds how long Postgres may take until it answers; recovery
	// after a crash can take minutes. Defaults to 10 minutes.
	StartTimeout time.Duration

	// StopTimeout bounds the orderly shutdown, after which Postgres is stopped
	// without a checkpoint and recovers at its next start. Defaults to 30
	// seconds.
	StopTimeout time.Duration

	// Logger receives what this package does. Passwords are never logged.
	// Defaults to discarding.
	Logger *slog.Logger
}

// DownloadNever as Config.Download keeps PostgreSQL from being downloaded.
const DownloadNever = "never"

const mavenCentral = "https://repo1.maven.org/maven2"

// Settings that Start itself decides; overriding them would break the URLs.
var reservedSettings = map[string]string{
	"port":              "use Config.Port",
	"data_directory":    "use Config.DataDir",
	"hba_file":          "the cluster's own file is used",
	"config_file":       "the cluster's own file is used",
	"external_pid_file": "the cluster's own file is used",
}

var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$`)

// withDefaults checks the configuration and fills in what it leaves open.
func (c Config) withDefaults() (Config, error) {
	if c.DataDir == "" && !c.Throwaway {
		return c, errors.New("embedded: Config.DataDir is required")
	}
	if c.DataDir != "" {
		absolute, err := filepath.Abs(c.DataDir)
		if err != nil {
			return c, fmt.Errorf("embedded: Config.DataDir: %w", err)
		}
		c.DataDir = absolute
	}
	if c.Port < 0 || c.Port > 65535 {
		return c, fmt.Errorf("embedded: Config.Port: %d is no TCP port", c.Port)
	}
	for name := range c.Settings {
		if why, reserved := reservedSettings[name]; reserved {
			return c, fmt.Errorf("embedded: Config.Settings: %s can't be set here: %s", name, why)
		}
		if !settingName.MatchString(name) {
			return c, fmt.Errorf("embedded: Config.Settings: %q is no name of a setting", name)
		}
	}
	if c.Download == "" {
		c.Download = mavenCentral
	}
	if c.StartTimeout <= 0 {
		c.StartTimeout = 10 * time.Minute
	}
	if c.StopTimeout <= 0 {
		c.StopTimeout = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
