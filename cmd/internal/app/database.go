package app

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"mooring/storage/embedded"
)

// Database tells how to reach a database.
type Database struct {
	URL       string // of the role that owns everything; may hold a password
	ReaderURL string // of a role that may only read; may hold a password
	Embedded  *embedded.Info
}

// readerSettings make a connection one that only reads and finds the views
// without naming their schema.
const readerSettings = "-c role=mooring_reader -c default_transaction_read_only=on -c search_path=mooring,mooring_layout,public"

// FindDatabase locates the configured database, or the private one that a
// running server keeps in its data directory; then its error matches
// embedded.ErrNotRunning if there is none.
func FindDatabase(_ context.Context, location Location) (Database, error) {
	if location.DatabaseURL != "" {
		return configuredDatabase(location.DatabaseURL)
	}
	directory := location.DataDir
	if directory == "" {
		directory = DefaultDataDir()
	}
	info, err := embedded.Discover(directory)
	if err != nil {
		return Database{}, err
	}
	return Database{URL: info.URL, ReaderURL: info.ReaderURL, Embedded: &info}, nil
}

// configuredDatabase derives the reader's URL from the owner's: the same login
// that takes the reader's role on, as that role has no password to know. It
// works on the text, since URLs that name several hosts are none to net/url.
func configuredDatabase(text string) (Database, error) {
	if !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://") {
		return Database{}, errors.New("--database-url must be like postgres://user:password@host/database")
	}
	base, query, _ := strings.Cut(text, "?")
	var kept []string
	options := readerSettings
	for parameter := range strings.SplitSeq(query, "&") {
		if theirs, ok := strings.CutPrefix(parameter, "options="); ok {
			decoded, err := url.PathUnescape(theirs)
			if err != nil {
				return Database{}, fmt.Errorf("--database-url: options: %w", err)
			}
			options = decoded + " " + options
		} else if parameter != "" {
			kept = append(kept, parameter)
		}
	}
	kept = append(kept, "options="+url.PathEscape(options))
	return Database{URL: text, ReaderURL: base + "?" + strings.Join(kept, "&")}, nil
}

var password = regexp.MustCompile(`(://[^:/@]*):[^/]*@`)

// Redact takes the password out of a connection URL, for logs.
func Redact(text string) string {
	return password.ReplaceAllString(text, "$1:…@")
}
