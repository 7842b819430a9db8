//go:build linux || darwin

package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// lockDataDir takes the data directory for this process. The lock is the
// kernel's and ends with the process, however that ends; the number in the file
// only serves the error message.
func lockDataDir(path string) (*os.File, error) {
	file, err := openOwn(path, os.O_RDWR)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		content, _ := io.ReadAll(io.LimitReader(file, 32))
		pid, _ := strconv.Atoi(strings.TrimSpace(string(content)))
		return nil, errors.Join(&InUseError{DataDir: filepath.Dir(path), PID: pid}, file.Close())
	}
	if err == nil {
		err = file.Truncate(0)
	}
	if err == nil {
		_, err = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the data directory with %s: %w", path, err), file.Close())
	}
	return file, nil
}

// unlock gives the data directory back. Unlocking and not just closing matters:
// a process that is being forked at this moment has the file open too, until it
// becomes another program.
func unlock(file *os.File) error {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
	return errors.Join(err, file.Close())
}
