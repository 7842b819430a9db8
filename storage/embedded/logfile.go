//go:build linux || darwin

package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// logLimit is the size, in bytes, from which Postgres' log is put aside. One
// old log is kept, so logs take about twice as much.
const logLimit = 16 << 20

// openLog opens the log for Postgres to append to and returns where its new
// words begin.
func openLog(path string) (file *os.File, offset int64, err error) {
	file, err = openOwn(path, os.O_WRONLY|os.O_APPEND)
	if err != nil {
		return nil, 0, fmt.Errorf("open the log of Postgres: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

// rotateLog puts the log aside when it has grown. Postgres keeps its file open
// for appending, so the file is copied and emptied; lines written in between
// are lost, which a log can bear.
func rotateLog(path string, limit int64) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || (err == nil && info.Size() < limit) {
		return nil
	}
	if err != nil {
		return err
	}
	source, err := openOwn(path, os.O_RDWR)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := openOwn(path+".1", os.O_WRONLY|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	if err := errors.Join(err, target.Close()); err != nil {
		return err
	}
	return source.Truncate(0)
}

// logTail returns the last lines written from offset on.
func logTail(path string, offset int64) string {
	const most = 4 << 10
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return ""
	}
	if info.Size() < offset { // rotated meanwhile
		offset = 0
	}
	begin := max(offset, info.Size()-most)
	content, err := io.ReadAll(io.NewSectionReader(file, begin, info.Size()-begin))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}
