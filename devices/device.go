package devices

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Device is who a credential belongs to.
type Device struct {
	ID   int32
	Name string
	// TokenID is the credential's own number; 0 for certificates.
	TokenID int64
	// Serial is the certificate's, in hexadecimal, and Expires its end, in
	// seconds since 1970; empty and 0 for tokens.
	Serial  string
	Expires int64
	// RowRate and ByteRate are what it may send a second; 0: as the server says
	// for all; below 0: no limit.
	RowRate, ByteRate int32
}

// Errors that callers tell apart. Any other error of Authenticate and
// OpenSession is temporary: try again later.
var (
	// ErrUnauthenticated means that the credential is none, or no longer one.
	ErrUnauthenticated = errors.New("bad credential")
	// ErrDisabled means that the credential is good but its device is disabled.
	ErrDisabled = errors.New("device is disabled")
	// ErrNotKnown means that Credential.OnlyKnown asked for what is in memory,
	// and the credential is not.
	ErrNotKnown = errors.New("the credential is not in memory")
	// ErrBusy means that more callers wait than the registry keeps room for.
	ErrBusy = errors.New("too many devices are waiting for the registry")
	// ErrClosed means that the registry was closed.
	ErrClosed = errors.New("the registry is closed")

	// ErrExists means that a device of this name is registered.
	ErrExists = errors.New("device exists already")
	// ErrNotFound means that no device of this name is registered.
	ErrNotFound = errors.New("no such device")
	// ErrHasReadings means that a device can't be removed because rows of it are stored.
	ErrHasReadings = errors.New("readings of this device are stored")
)

// FieldError says which field of a request is wrong, and what its limit is.
type FieldError struct {
	Field   string
	Problem string
}

// Error names the field and the problem.
func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

// MaxName is the longest name of a device, in bytes.
const MaxName = 128

// CheckName says whether a device may have this name: 1 to MaxName bytes of
// printable UTF-8 without spaces. A colon is refused because it ends the name
// in Basic authentication (RFC 7617, section 2). The error is a *FieldError.
func CheckName(name string) error {
	switch {
	case name == "":
		return &FieldError{"name", "is empty; 1 to 128 bytes are needed"}
	case len(name) > MaxName:
		return &FieldError{"name", fmt.Sprintf("has %d bytes; at most %d are allowed", len(name), MaxName)}
	case !utf8.ValidString(name):
		return &FieldError{"name", "is not valid UTF-8"}
	}
	at := strings.IndexFunc(name, func(r rune) bool {
		return r == ':' || unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
	if at >= 0 {
		r, _ := utf8.DecodeRuneInString(name[at:])
		return &FieldError{"name", fmt.Sprintf("holds %q; only printable characters without spaces and colons are allowed", r)}
	}
	return nil
}
