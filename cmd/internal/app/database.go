package app

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"mooring/storage"
	"mooring/storage/embedded"
)

// Database tells how to reach a database.
type Database struct {
	URL      string         // of the role that owns everything; may hold a password
	Embedded *embedded.Info // nil: a configured database
}

// What makes a connection one that only reads and finds the views without
// naming their schemas.
const (
	readerRole     = "-c role=mooring_reader "
	readerSettings = "-c default_transaction_read_only=on -c search_path=mooring,mooring_layout,public"
)

// Reader gives a connection URL for reading; it may hold a password. For the
// private PostgreSQL that is a login which may do no more. For a configured one
// it is the same login, which takes the reader's role on, as that role has no
// password to know; limited is false if the login may not even do that, and then
// only its transactions are read-only until it says otherwise.
func (d Database) Reader(ctx context.Context) (url string, limited bool, err error) {
	if d.Embedded != nil {
		return d.Embedded.ReaderURL, true, nil
	}
	if url, err = withOptions(anyServer(d.URL), readerRole+readerSettings); err != nil {
		return "", false, err
	}
	reader, err := storage.OpenReader(ctx, url)
	if err == nil {
		reader.Close()
		return url, true, nil
	}
	// 42501: it may not take the role on. 22023: there is no such role.
	if text := err.Error(); !strings.Contains(text, "42501") && !strings.Contains(text, "22023") {
		return "", false, err
	}
	url, err = withOptions(anyServer(d.URL), readerSettings)
	return url, false, err
}

// FindDatabase locates the configured database, or the private one that a
// running server keeps in its data directory; then its error matches
// embedded.ErrNotRunning if there is none.
func FindDatabase(location Location) (Database, error) {
	configured, err := location.configured()
	if err != nil || configured.URL != "" {
		return configured, err
	}
	directory := location.DataDir
	if directory == "" {
		directory = DefaultDataDir()
	}
	info, err := embedded.Discover(directory)
	if err != nil {
		return Database{}, err
	}
	return Database{URL: info.URL, Embedded: &info}, nil
}

// ErrDatabaseURL is matched by the error for a --database-url that can't be read.
var ErrDatabaseURL = errors.New("--database-url must be like postgres://user:password@host/database")

// databaseURL is the URL of the configured database; empty: there is none. The
// file's content never gets into an error.
func (l Location) databaseURL() (string, error) {
	switch {
	case l.DatabaseURLFile == "":
		return l.DatabaseURL, nil
	case l.DatabaseURL != "":
		return "", errors.New("give --database-url or --database-url-file, not both")
	}
	content, err := os.ReadFile(l.DatabaseURLFile)
	if err != nil {
		return "", fmt.Errorf("--database-url-file: %w", err)
	}
	url := strings.TrimSpace(string(content))
	if url == "" {
		return "", fmt.Errorf("--database-url-file: %s is empty", l.DatabaseURLFile)
	}
	return url, nil
}

// configured is the database that is given by its URL, without one if none is. It
// refuses what is no URL, since Reader adds parameters to it.
func (l Location) configured() (Database, error) {
	text, err := l.databaseURL()
	if err != nil || text == "" {
		return Database{}, err
	}
	if !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://") {
		return Database{}, ErrDatabaseURL
	}
	if err := storage.CheckURL(text); err != nil {
		return Database{}, fmt.Errorf("%w: %w", ErrDatabaseURL, err)
	}
	return Database{URL: text}, nil
}

// anyServer takes the demand for a writable server out of a connection URL: a
// session that only reads looks to the driver like one on a server that does.
func anyServer(text string) string {
	base, query, found := strings.Cut(text, "?")
	if !found {
		return text
	}
	parameters := slices.DeleteFunc(strings.Split(query, "&"), func(p string) bool { return strings.HasPrefix(p, "target_session_attrs=") })
	if len(parameters) == 0 {
		return base
	}
	return base + "?" + strings.Join(parameters, "&")
}

// withOptions adds server options to a connection URL. It works on the text,
// since URLs that name several hosts are none to net/url.
func withOptions(text, options string) (string, error) {
	base, query, _ := strings.Cut(text, "?")
	var kept []string
	for parameter := range strings.SplitSeq(query, "&") {
		if theirs, ok := strings.CutPrefix(parameter, "options="); ok {
			decoded, err := url.PathUnescape(theirs)
			if err != nil {
				return "", fmt.Errorf("--database-url: options: %w", err)
			}
			options = decoded + " " + options
		} else if parameter != "" {
			kept = append(kept, parameter)
		}
	}
	// libpq reads %20 but takes + for a plus.
	kept = append(kept, "options="+strings.ReplaceAll(url.QueryEscape(options), "+", "%20"))
	return base + "?" + strings.Join(kept, "&"), nil
}

// A password may stand before the host, where it may hold anything, or among the
// parameters.
var (
	password  = regexp.MustCompile(`^([^:]*://[^:/@?]*):[^?]*@`)
	parameter = regexp.MustCompile(`(?i)([?&](?:ssl)?password=)[^&]*`)
)

// Redact takes the password out of a connection URL, for logs.
func Redact(text string) string {
	return parameter.ReplaceAllString(password.ReplaceAllString(text, "$1:…@"), "$1…")
}
