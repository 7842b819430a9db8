//go:build linux || darwin

package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Supported major versions of PostgreSQL.
const (
	oldestMajor = 15
	newestMajor = 18
)

// Installation is a PostgreSQL whose programs can be run.
type Installation struct {
	BinDir  string
	Version string // as in "15.18"
	Major   int
}

func (i Installation) program(name string) string { return filepath.Join(i.BinDir, name) }

// Where packages put the programs of a server; * stands for a version.
var packageFolders = []string{
	"/usr/lib/postgresql/*/bin",          // Debian, Ubuntu
	"/usr/lib/postgresql*/bin",           // openSUSE
	"/usr/pgsql-*/bin",                   // RPMs of postgresql.org
	"/usr/libexec/postgresql*",           // Alpine
	"/opt/homebrew/opt/postgresql@*/bin", // Homebrew, Apple processors
	"/usr/local/opt/postgresql@*/bin",    // Homebrew, Intel processors
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
	"/Library/PostgreSQL/*/bin", // installer of postgresql.org
	"/usr/local/pgsql/bin",      // built from source
}

// search is one look for an installation.
type search struct {
	account account
	binDir  string // if set, the only one looked at
	major   int    // wanted; 0: any supported one

	skipped []string // candidates that won't do, each with its reason
	others  []string // usable ones of another major version
}

// find returns the first usable installation in order of preference: the
// caller's PATH, pg_config, then the packages' folders, the newest version
// first.
func (s *search) find(ctx context.Context) (Installation, bool) {
	for _, directory := range s.candidates(ctx) {
		installation, err := s.inspect(ctx, directory)
		if err != nil {
			s.skipped = append(s.skipped, fmt.Sprintf("%s: %v", directory, err))
			continue
		}
		if s.major != 0 && installation.Major != s.major {
			s.others = append(s.others, fmt.Sprintf("%s in %s", installation.Version, directory))
			continue
		}
		return installation, true
	}
	return Installation{}, false
}

func (s *search) candidates(ctx context.Context) []string {
	if s.binDir != "" {
		return []string{s.binDir}
	}
	var directories []string
	add := func(directory string) {
		if resolved, err := filepath.EvalSymlinks(directory); err == nil && !slices.Contains(directories, resolved) {
			directories = append(directories, resolved)
		}
	}
	// Links such as /usr/local/bin/postgres lead to the folder with the rest.
	for _, name := range []string{"postgres", "initdb"} {
		if program, err := exec.LookPath(name); err == nil {
			if resolved, err := filepath.EvalSymlinks(program); err == nil {
				add(filepath.Dir(resolved))
			}
		}
	}
	if program, err := exec.LookPath("pg_config"); err == nil {
		limited, cancel := context.WithTimeout(ctx, 5*time.Second)
		if output, err := exec.CommandContext(limited, program, "--bindir").Output(); err == nil { //nolint:gosec // from the PATH
			add(strings.TrimSpace(string(output)))
		}
		cancel()
	}
	var found []string
	for _, folder := range packageFolders {
		matches, _ := filepath.Glob(folder)
		found = append(found, matches...)
	}
	slices.SortStableFunc(found, func(a, b string) int { return cmp.Compare(versionInPath(b), versionInPath(a)) })
	for _, directory := range found {
		add(directory)
	}
	if len(directories) == 0 {
		s.skipped = append(s.skipped, "PATH, pg_config and the folders of packages: nothing there")
	}
	return directories
}

var digits = regexp.MustCompile(`[0-9]+`)

// versionInPath is the major version in the name of a package's folder.
func versionInPath(path string) int {
	number, _ := strconv.Atoi(digits.FindString(path))
	return number
}

// errTool is wrapped by reasons that mean an incomplete package.
var errTool = errors.New("is missing")

// inspect tells which PostgreSQL is in a directory, or why it won't do.
func (s *search) inspect(ctx context.Context, directory string) (Installation, error) {
	for _, name := range []string{"postgres", "initdb"} {
		program := filepath.Join(directory, name)
		info, err := os.Stat(program)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return Installation{}, fmt.Errorf("%s %w (is only the client installed?)", name, errTool)
		case err != nil:
			return Installation{}, err
		case info.IsDir() || info.Mode()&0o111 == 0:
			return Installation{}, fmt.Errorf("%s can't be executed", name)
		}
		advice := "Install PostgreSQL where every user can run it, or run the server as an ordinary user."
		if err := s.account.checkReach(program, advice); err != nil {
			return Installation{}, err
		}
	}
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	output, err := s.account.run(limited, false, "/", filepath.Join(directory, "postgres"), "", "--version")
	if err != nil {
		return Installation{}, fmt.Errorf("postgres --version: %w %s", err, strings.TrimSpace(output))
	}
	installation, err := parseVersion(output)
	if err != nil {
		return Installation{}, err
	}
	installation.BinDir = directory
	if installation.Major < oldestMajor || installation.Major > newestMajor {
		return Installation{}, fmt.Errorf("version %s is not supported (%d to %d are)", installation.Version, oldestMajor, newestMajor)
	}
	return installation, nil
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) (([0-9]+)[.0-9a-z]*)`)

// parseVersion reads "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
func parseVersion(line string) (Installation, error) {
	match := versionLine.FindStringSubmatch(line)
	if match == nil {
		return Installation{}, fmt.Errorf("postgres --version said %q", strings.TrimSpace(line))
	}
	major, err := strconv.Atoi(match[2])
	if err != nil {
		return Installation{}, fmt.Errorf("postgres --version: %w", err)
	}
	return Installation{Version: match[1], Major: major}, nil
}
