package conform

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Program is a started device program.
type Program interface {
	// Stop ends it and waits until it has ended.
	Stop()
	// Ended is closed when it has ended, by itself or by Stop.
	Ended() <-chan struct{}
	// Why says how it ended, for people.
	Why() string
}

// Target is what a program is told of the server that it is to use.
type Target struct {
	URL, Token string
	// Authority is a file with the certificate, in PEM, of the authority that the
	// program is to trust; "": TLS is not spoken.
	Authority string
}

// Start starts a device program that connects to a server, and sends rows until it
// is stopped. ctx bounds its life.
type Start func(ctx context.Context, at Target) (Program, error)

// endPatience is how long a program has after SIGTERM.
const endPatience = 3 * time.Second

// Command starts programs by a line for the shell, in which {url} and {token}
// stand for what they are told. The file of the authority to trust stands for {ca},
// and in the variables that OpenSSL, Go and Node go by.
func Command(line string) (Start, error) {
	for _, needed := range []string{"{url}", "{token}"} {
		if !strings.Contains(line, needed) {
			return nil, fmt.Errorf("the command %q does not say where %s goes", line, needed)
		}
	}
	return func(ctx context.Context, at Target) (Program, error) {
		filled := strings.NewReplacer("{url}", at.URL, "{token}", at.Token, "{ca}", at.Authority).Replace(line)
		p := &process{ended: make(chan struct{})}
		// The program is ended by its group, not by ctx, which would leave children.
		p.cmd = exec.CommandContext(context.WithoutCancel(ctx), "sh", "-c", filled) //nolint:gosec // to run the command is what was asked for
		p.cmd.Stdout, p.cmd.Stderr = &p.tail, &p.tail
		if at.Authority != "" {
			p.cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+at.Authority, "NODE_EXTRA_CA_CERTS="+at.Authority)
		}
		p.cmd.WaitDelay = endPatience // for pipes that grandchildren hold
		ownGroup(p.cmd)
		if err := p.cmd.Start(); err != nil {
			return nil, fmt.Errorf("start %q: %w", filled, err)
		}
		go func() {
			p.err = p.cmd.Wait()
			close(p.ended)
		}()
		return p, nil
	}, nil
}

// process is a program started by Command.
type process struct {
	cmd   *exec.Cmd
	tail  tail
	ended chan struct{}
	err   error // set when ended is closed
}

func (p *process) Ended() <-chan struct{} { return p.ended }

func (p *process) Stop() {
	terminate(p.cmd.Process)
	// The shell may end before what it started, which may have to tidy up.
	limit := time.NewTimer(endPatience)
	defer limit.Stop()
	look := time.NewTicker(endPatience / 100)
	defer look.Stop()
	for groupLives(p.cmd.Process) {
		select {
		case <-look.C:
			continue
		case <-limit.C:
		}
		break
	}
	kill(p.cmd.Process) // what the group still has
	<-p.ended
}

func (p *process) Why() string {
	why := "the program ended"
	if exit := (*exec.ExitError)(nil); errors.As(p.err, &exit) {
		why += " (" + exit.String() + ")"
	}
	if said := p.tail.String(); said != "" {
		why += ": " + said
	}
	return why
}

// tail keeps the end of what a program says.
type tail struct {
	mu   sync.Mutex
	last []byte
}

// tailBytes is enough for the last line of an error's trace.
const tailBytes = 512

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, p...)
	if excess := len(t.last) - tailBytes; excess > 0 {
		t.last = append(t.last[:0], t.last[excess:]...)
	}
	return len(p), nil
}

// String is the last line.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.last)), "\n")
	return lines[len(lines)-1]
}
