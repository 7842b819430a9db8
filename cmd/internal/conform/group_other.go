//go:build !unix

package conform

import (
	"os"
	"os/exec"
)

func ownGroup(*exec.Cmd) {}

func terminate(p *os.Process) { _ = p.Kill() }

func groupLives(*os.Process) bool { return false }

func kill(p *os.Process) { _ = p.Kill() }
