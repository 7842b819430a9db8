//go:build linux || darwin

package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// A server that runs as root works in directories of users that are not to
// become root: those who own the data directory or run Postgres. So files are
// opened without following links that such a user may have put in their place,
// and change hands by their descriptors, not by their names.

// openOwn opens, or makes, a file that only its owner can read, and gives it
// the owner of its directory, so that a server that ran as root once does not
// lock out the ordinary user to whom the directory belongs.
func openOwn(path string, flags int) (*os.File, error) {
	file, err := os.OpenFile(path, flags|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := likeDirectory(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func likeDirectory(file *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	owner, exists, err := ownerOf(filepath.Dir(file.Name()))
	if err != nil || !exists {
		return err
	}
	return file.Chown(int(owner.uid), int(owner.gid))
}

// replaceFile writes a file that only its owner can read, in one step: a crash
// leaves the old content or the new.
func replaceFile(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(file.Name()) // fails once it has been renamed
	_, err = file.Write(content)
	err = errors.Join(err, likeDirectory(file), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}
