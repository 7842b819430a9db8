package embedded

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

var (
	// ErrNotRunning is matched by Discover's error when no Postgres serves the
	// data directory.
	ErrNotRunning = errors.New("the embedded database is not running")

	// ErrUnsupported is matched by errors on operating systems where this
	// package can't run Postgres.
	ErrUnsupported = errors.New("embedded Postgres is not supported on this operating system")

	// ErrStopped is returned by methods that need a cluster that was not
	// stopped.
	ErrStopped = errors.New("the embedded database was stopped")
)

// InUseError says that another server holds the data directory.
type InUseError struct {
	DataDir string
	PID     int // of that server; 0: unknown
}

func (e *InUseError) Error() string {
	who := "another Mooring server"
	if e.PID != 0 {
		who = fmt.Sprintf("the Mooring server with process id %d", e.PID)
	}
	return fmt.Sprintf("data directory %s is in use by %s: stop it, or choose another data directory", e.DataDir, who)
}

// ForeignError says that a data directory holds what no Mooring server put
// there. Nothing was changed.
type ForeignError struct {
	DataDir string
	Entries []string // names of what is not ours
	Closed  string   // if a cluster is there, and the directory is closed to the account that runs Postgres: that account
}

func (e *ForeignError) Error() string {
	const most = 3
	names := strings.Join(e.Entries[:min(most, len(e.Entries))], ", ")
	if more := len(e.Entries) - most; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	if e.Closed != "" {
		return fmt.Sprintf("user %s, which runs Postgres because Postgres refuses to run as root, can't enter data directory %s, and it is not opened to others because it holds more than Mooring's: %s. Nothing was changed. Move that elsewhere, or open it yourself: chmod o+x %s",
			e.Closed, e.DataDir, names, e.DataDir)
	}
	return fmt.Sprintf("data directory %s holds what is not Mooring's (%s). Nothing was changed. Choose a directory that is empty or does not exist yet, for example %s",
		e.DataDir, names, filepath.Join(e.DataDir, "mooring"))
}

// VersionError says that the cluster was made by a PostgreSQL that is not here.
// Nothing was changed.
type VersionError struct {
	DataDir string
	Cluster string   // PG_VERSION, the major version that made the cluster
	Found   []string // versions found, each with its directory
	Command string   // installs the version needed
}

func (e *VersionError) Error() string {
	found := "none was found"
	if len(e.Found) > 0 {
		found = "found: " + strings.Join(e.Found, ", ")
	}
	var text strings.Builder
	fmt.Fprintf(&text, "data directory %s was made by PostgreSQL %s and needs that version to run, but %s. Nothing was changed. ",
		e.DataDir, e.Cluster, found)
	if e.Command != "" {
		fmt.Fprintf(&text, "Either install PostgreSQL %s (%s), or ", e.Cluster, e.Command)
	} else {
		fmt.Fprintf(&text, "PostgreSQL %s is not one that Mooring supports (%d to %d): ", e.Cluster, oldestMajor, newestMajor)
	}
	text.WriteString("move the data over with pg_upgrade or pg_dump, or choose another data directory")
	return text.String()
}

// NotInstalledError says that no usable PostgreSQL was found.
type NotInstalledError struct {
	Skipped  []string // directories looked at, each with the reason it won't do
	Download error    // why downloading failed; nil: it was not tried
	Command  string   // installs PostgreSQL on this operating system
}

func (e *NotInstalledError) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "no usable PostgreSQL (%d to %d) is installed. Install it with:\n\n    %s\n\nor give the URL of a database. Looked in:",
		oldestMajor, newestMajor, e.Command)
	for _, skipped := range e.Skipped {
		text.WriteString("\n  " + skipped)
	}
	if e.Download != nil {
		fmt.Fprintf(&text, "\n  download: %v", e.Download)
	}
	return text.String()
}

func (e *NotInstalledError) Unwrap() error { return e.Download }

// AccessError says that the account which runs Postgres can't reach a path.
type AccessError struct {
	Path      string // what is to be reached
	Directory string // the directory, or file, that stands in the way
	Mode      string // its permissions and owner
	User      string // the account that runs Postgres
	Advice    string
}

func (e *AccessError) Error() string {
	text := fmt.Sprintf("user %s, which runs Postgres because Postgres refuses to run as root, can't reach %s", e.User, e.Path)
	if e.Directory != "" {
		text += fmt.Sprintf(": %s (%s) does not let it in", e.Directory, e.Mode)
	}
	return text + ". " + e.Advice
}

// StartError says that Postgres did not start or was not set up.
type StartError struct {
	Step    string // what failed: "initdb", "postgres"
	Err     error
	LogPath string // where Postgres' own words are; may be empty
	Tail    string // the last of them
}

func (e *StartError) Error() string {
	text := fmt.Sprintf("embedded database: %s: %v", e.Step, e.Err)
	if tail := strings.TrimSpace(e.Tail); tail != "" {
		text += "\nits last words were:\n  " + strings.ReplaceAll(tail, "\n", "\n  ")
	}
	if e.LogPath != "" {
		text += "\n(see " + e.LogPath + ")"
	}
	return text
}

func (e *StartError) Unwrap() error { return e.Err }
