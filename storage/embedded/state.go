//go:build linux || darwin

package embedded

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strconv"
)

// Names of the roles and of the database.
const (
	superuserRole = "postgres"
	ownerRole     = "mooring"
	readerRole    = "mooring_reader"
	databaseName  = "mooring"
)

// state is what has to be known to connect; it is the only place where the
// passwords are kept.
type state struct {
	Port              int    `json:"port"`
	SuperuserPassword string `json:"superuser_password"`
	OwnerPassword     string `json:"owner_password"`
	ReaderPassword    string `json:"reader_password"`
}

// newState makes passwords of 256 random bits.
func newState() state {
	return state{SuperuserPassword: password(), OwnerPassword: password(), ReaderPassword: password()}
}

func password() string {
	var bits [32]byte
	_, _ = rand.Read(bits[:]) // never fails
	return hex.EncodeToString(bits[:])
}

func (s state) url(role, secret, database string) string {
	address := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(role, secret),
		Host:     "127.0.0.1:" + strconv.Itoa(s.Port),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return address.String()
}

func (s state) ownerURL() string     { return s.url(ownerRole, s.OwnerPassword, databaseName) }
func (s state) readerURL() string    { return s.url(readerRole, s.ReaderPassword, databaseName) }
func (s state) superuserURL() string { return s.url(superuserRole, s.SuperuserPassword, "postgres") }

// readState reads the state file; found is false if there is none.
func readState(path string) (s state, found bool, err error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, false, nil
	}
	if err != nil {
		return state{}, false, err
	}
	if err := json.Unmarshal(content, &s); err != nil {
		return state{}, false, fmt.Errorf("%s is damaged: %w; remove it, and the next start sets new passwords", path, err)
	}
	if s.SuperuserPassword == "" || s.OwnerPassword == "" || s.ReaderPassword == "" {
		return state{}, false, fmt.Errorf("%s is damaged: passwords are missing; remove it, and the next start sets new ones", path)
	}
	return s, true, nil
}

// write replaces the state file as a whole.
func (s state) write(path string) error {
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(path, append(content, '\n'))
}
