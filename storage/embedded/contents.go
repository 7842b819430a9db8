//go:build linux || darwin

package embedded

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// foreignEntries lists what lies in a data directory and is not this package's.
// A directory that does not exist holds nothing.
func foreignEntries(directory string) ([]string, error) {
	entries, err := os.ReadDir(directory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var foreign []string
	for _, entry := range entries {
		if !ownEntry(directory, entry.Name()) {
			foreign = append(foreign, entry.Name())
		}
	}
	return foreign, nil
}

// ownEntry tells whether this package makes an entry of that name in a data
// directory. lost+found is nobody's: every new ext4 has it.
func ownEntry(directory, name string) bool {
	own := pathsIn(directory)
	for _, path := range []string{own.cluster, own.state, own.log, own.log + ".1", own.lock} {
		if name == filepath.Base(path) {
			return true
		}
	}
	return name == "lost+found" || strings.HasPrefix(name, newClusterPrefix) ||
		strings.HasPrefix(name, "."+filepath.Base(own.state)+"-") // replaceFile's
}

// checkContents refuses to make a cluster among other people's files, before
// anything is changed: most likely the directory is not the one that was meant,
// and initdb refuses for the same reason. A cluster that is there already is
// used whatever lies beside it.
func checkContents(directory string) error {
	if _, err := os.Lstat(pathsIn(directory).cluster); err == nil {
		return nil
	}
	foreign, err := foreignEntries(directory)
	if err != nil {
		return err
	}
	if len(foreign) > 0 {
		return &ForeignError{DataDir: directory, Entries: foreign}
	}
	return nil
}
