//go:build linux

package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// programs are the built binaries, each kind built when first asked for.
type programs struct {
	mu   sync.Mutex
	root string // "": nothing built
	done map[bool]error
}

var built programs

// builtVariable names a folder with programs that were built before, in plain and
// in race, for runs of several packages that need them: .ci/run builds them once.
const builtVariable = "MOORING_TEST_PROGRAMS"

// folder gives where mooring and fleet are, built with the race detector or not.
func (p *programs) folder(race bool) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := "plain"
	if race {
		name = "race"
	}
	if root := os.Getenv(builtVariable); root != "" {
		return filepath.Join(root, name), nil // what is missing there can't be started
	}
	if p.root == "" {
		root, err := os.MkdirTemp("", "mooring-faults-")
		if err != nil {
			return "", fmt.Errorf("faults: %w", err)
		}
		p.root, p.done = root, make(map[bool]error)
	}
	folder := filepath.Join(p.root, name)
	if err, is := p.done[race]; is {
		return folder, err
	}
	arguments := []string{"build", "-buildvcs=false", "-o", folder + string(filepath.Separator)}
	if race {
		arguments = append(arguments, "-race")
	}
	arguments = append(arguments, "mooring/cmd/mooring", "mooring/cmd/fleet")
	output, err := exec.CommandContext(context.Background(), "go", arguments...).CombinedOutput() //nolint:gosec // our own arguments
	if err != nil {
		err = fmt.Errorf("faults: go build: %w: %s", err, output)
	}
	p.done[race] = err
	return folder, err
}

func (p *programs) remove() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.root == "" {
		return nil
	}
	err := os.RemoveAll(p.root)
	p.root, p.done = "", map[bool]error{}
	return errors.Join(err)
}

// program is the path of a built program.
func program(tb testing.TB, race bool, name string) string {
	tb.Helper()
	folder, err := built.folder(race)
	if err != nil {
		tb.Fatal(err)
	}
	return filepath.Join(folder, name)
}
