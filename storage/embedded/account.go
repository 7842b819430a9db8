//go:build linux || darwin

package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// account is who runs Postgres.
type account struct {
	uid, gid uint32
	name     string
	drop     bool // this process is root and must become the account
}

// chooseAccount decides who runs Postgres: this process' own user; or, if that
// is root, the owner of the existing cluster, else the wanted user, else the
// owner of the data directory, else postgres, else nobody. Daemons of other
// programs may run as nobody too, so it comes last, but every system has it.
func chooseAccount(where paths, wanted string) (account, error) {
	self := account{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}
	self.name = userName(self.uid)

	owner, exists, err := ownerOf(where.cluster)
	if err != nil {
		return account{}, err
	}
	if self.uid != 0 {
		if exists && owner.uid != self.uid {
			return account{}, fmt.Errorf("the cluster in %s belongs to user %s, not to %s: run the server as %s or as root, or choose another data directory",
				where.data, owner.name, self.name, owner.name)
		}
		return self, nil
	}
	if exists {
		if owner.uid == 0 {
			return account{}, fmt.Errorf("the cluster in %s belongs to root, as whom Postgres refuses to run: give it to another user, for example with: chown -R postgres: %s",
				where.data, where.cluster)
		}
		owner.drop = true
		return owner, nil
	}
	names := []string{"postgres", "nobody"}
	if wanted != "" {
		names = []string{wanted}
	} else if owner, _, err := ownerOf(where.data); err == nil && owner.uid != 0 {
		owner.drop = true
		return owner, nil
	}
	for _, name := range names {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(found.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(found.Gid, 10, 32)
		if uidErr != nil || gidErr != nil || uid == 0 {
			continue
		}
		return account{uid: uint32(uid), gid: uint32(gid), name: name, drop: true}, nil
	}
	return account{}, fmt.Errorf("postgres refuses to run as root, and there is no ordinary user to run it as (looked for: %s): run the server as an ordinary user",
		strings.Join(names, ", "))
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if found, err := user.LookupId(id); err == nil {
		return found.Username
	}
	return "#" + id
}

// ownerOf tells to whom a file or directory belongs. A symbolic link is refused:
// who may put one there would choose whose files root works with.
func ownerOf(path string) (owner account, exists bool, err error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return account{}, false, nil
	}
	if err != nil {
		return account{}, false, err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return account{}, false, fmt.Errorf("%s is a symbolic link, which is not followed. Nothing was changed; put in its place what it points to, or let the path of the whole data directory be a link", path)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return account{}, false, fmt.Errorf("%s: the owner is not known", path)
	}
	return account{uid: stat.Uid, gid: stat.Gid, name: userName(stat.Uid)}, true, nil
}

// mayPass tells whether the permission bits give the account what it needs
// (4 read, 1 execute or pass). The account has its primary group alone, since
// this process drops all others with root.
func (a account) mayPass(stat *syscall.Stat_t, need uint32) bool {
	mode := uint32(stat.Mode) //nolint:unconvert // 16 bits wide on macOS
	switch {
	case a.uid == stat.Uid:
		return mode>>6&need == need
	case a.gid == stat.Gid:
		return mode>>3&need == need
	default:
		return mode&need == need
	}
}

// checkReach tells whether the account can go through every directory above
// path and, if path is a file, read and execute it. Permission bits alone are
// looked at; the kernel's own answer comes when a program is started.
func (a account) checkReach(path string, advice string) error {
	if !a.drop {
		return nil
	}
	for _, step := range stepsTo(path) {
		info, err := os.Stat(step)
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			continue
		}
		need := uint32(1)
		if !info.IsDir() {
			need = 5
		}
		if !a.mayPass(stat, need) {
			return &AccessError{
				Path: path, Directory: step, User: a.name, Advice: advice,
				Mode: fmt.Sprintf("%s, owner %s", info.Mode(), userName(stat.Uid)),
			}
		}
	}
	return nil
}

// stepsTo lists path and every directory above it, the root first, symbolic
// links resolved as far as they can be.
func stepsTo(path string) []string {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		path = resolved
	}
	var steps []string
	for {
		steps = append(steps, path)
		parent := filepath.Dir(path)
		if parent == path {
			break
		}
		path = parent
	}
	slices.Reverse(steps)
	return steps
}

// dataDirAdvice says how to make a data directory reachable.
func dataDirAdvice(blocked string) string {
	return "Choose a data directory elsewhere, for example /var/lib/mooring; or run the server as an ordinary user; or let others pass through that directory: chmod o+x " + blocked
}

// give makes the account the owner of an open file or directory.
func (a account) give(file *os.File) error {
	if !a.drop {
		return nil
	}
	if err := file.Chown(int(a.uid), int(a.gid)); err != nil {
		return fmt.Errorf("give %s to user %s: %w", file.Name(), a.name, err)
	}
	return nil
}
