package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"mooring/cmd/internal/app"
	"mooring/ingest/bare"
)

// childVariable in the environment makes a process that calls Child a server.
const childVariable = "MOORING_BENCH_CHILD"

// bareReadBuffer is the gateway's default.
const bareReadBuffer = 1024

// order is what a child is told, as JSON on the first line of its standard
// input. It answers with its address in one line. Further lines are commands,
// each answered with one line; the end of the input ends the child.
type order struct {
	Bare        bool // the bare server
	DatabaseURL string
	Writers     int
	Linger      time.Duration
	Heartbeat   time.Duration
	Connections int
	Gateway     string
	Resume      time.Duration // --live-resume; 0: the default
	Generation  *generation   // no server, but devices
	Audition    *audition     // no server, but viewers
}

// longestOrder has room for the tokens of a large fleet.
const longestOrder = 64 << 20

// Commands to a child.
const (
	commandFree    = "free"    // collect garbage, give the memory back
	commandProfile = "profile" // NAME: write a CPU profile there, until the next
	commandStop    = "stop profile"
	commandHeap    = "heap" // NAME: write there what memory is in use, as text
)

// Child turns a process that Run has started into the server it is to be; in
// any other process it returns false at once. Whoever calls Run calls it first
// of all.
func Child() (code int, is bool) {
	if os.Getenv(childVariable) == "" {
		return 0, false
	}
	if err := serveChild(context.Background(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fleet bench: server:", err)
		return 1, true
	}
	return 0, true
}

func serveChild(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, longestOrder)
	if !lines.Scan() {
		return lines.Err()
	}
	var told order
	if err := json.Unmarshal(lines.Bytes(), &told); err != nil {
		return err
	}
	if told.Generation != nil {
		return generate(ctx, told.Generation, lines, out)
	}
	if told.Audition != nil {
		return attend(ctx, told.Audition, lines, out)
	}
	stop, addresses, err := startServer(ctx, &told)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, addresses)
	for lines.Scan() {
		fmt.Fprintln(out, obey(lines.Text()))
	}
	pprof.StopCPUProfile()
	return stop()
}

// startServer starts what is to be measured; addresses are the devices' and,
// unless it is the bare server, the operator's, with a space between.
func startServer(ctx context.Context, told *order) (stop func() error, addresses string, err error) {
	if told.Bare {
		var config net.ListenConfig
		listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, "", err
		}
		ended := make(chan error, 1)
		go func() { ended <- bare.Serve(listener, bareReadBuffer) }()
		return func() error {
			_ = listener.Close()
			return <-ended
		}, listener.Addr().String(), nil
	}
	server := app.New(app.Config{
		Location: app.Location{DatabaseURL: told.DatabaseURL}, Listen: "127.0.0.1:0", Gateway: told.Gateway,
		Doors:   app.Doors{AdminListen: "127.0.0.1:0"},
		Writers: told.Writers, Linger: app.Span(told.Linger), Heartbeat: app.Span(told.Heartbeat),
		MaxConnections: told.Connections, Live: app.Live{LiveResume: app.Span(told.Resume), LiveUserViewers: 1000}, Grace: app.Span(100 * time.Millisecond),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err := server.Start(ctx); err != nil {
		return nil, "", err
	}
	return func() error {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		return server.Stop(ctx)
	}, server.Addr() + " " + server.AdminAddr(), nil
}

// obey does what one line asks for and says what came of it.
func obey(line string) string {
	switch name, profile := strings.CutPrefix(line, commandProfile+" "); {
	case line == commandFree:
		runtime.GC()
		debug.FreeOSMemory()
	case line == commandStop:
		pprof.StopCPUProfile()
	case strings.HasPrefix(line, commandHeap+" "):
		if err := writeHeap(strings.TrimPrefix(line, commandHeap+" ")); err != nil {
			return err.Error()
		}
	case profile:
		file, err := os.Create(name)
		if err != nil {
			return err.Error()
		}
		if err := pprof.StartCPUProfile(file); err != nil {
			return err.Error()
		}
	default:
		return "unknown command"
	}
	return "done"
}

// writeHeap writes the allocations in use, by place, and the runtime's totals.
func writeHeap(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("heap").WriteTo(file, 1), file.Close())
}

// child is a server process, as seen from here.
type child struct {
	command *exec.Cmd
	input   io.WriteCloser
	output  *bufio.Reader
	address string // for devices
	admin   string // for the operator; empty: none
	release func() bool
}

func startChild(ctx context.Context, told order, stderr io.Writer) (*child, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// It ends with its standard input, so that it can stop in good order.
	command := exec.CommandContext(context.WithoutCancel(ctx), program) //nolint:gosec // this program itself
	command.Env = append(os.Environ(), childVariable+"=1")
	if told.Generation != nil || told.Audition != nil {
		command.Env = append(command.Env, "GOMAXPROCS=1", // there may be several
			"GOGC="+strconv.Itoa(generatorGarbage))
	}
	command.Stderr = stderr
	c := &child{command: command}
	if c.input, err = command.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.output = bufio.NewReader(output)
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start a server: %w", err)
	}
	c.release = context.AfterFunc(ctx, func() { _ = c.input.Close() }) // whoever waits for an answer is told
	text, err := json.Marshal(told)
	if err == nil {
		var answer string
		answer, err = c.ask(string(text))
		c.address, c.admin, _ = strings.Cut(answer, " ")
	}
	if err != nil {
		_ = c.stop()
		return nil, fmt.Errorf("start a server: %w", err)
	}
	return c, nil
}

func (c *child) pid() int { return c.command.Process.Pid }

// ask sends a line and reads the answer's.
func (c *child) ask(line string) (string, error) {
	if _, err := io.WriteString(c.input, line+"\n"); err != nil {
		return "", err
	}
	answer, err := c.output.ReadString('\n')
	return strings.TrimSpace(answer), err
}

// tell sends a command that is to be done.
func (c *child) tell(command string) error {
	answer, err := c.ask(command)
	if err == nil && answer != "done" {
		err = fmt.Errorf("server: %s: %s", command, answer)
	}
	return err
}

// stop ends the child and waits for it.
func (c *child) stop() error {
	c.release()
	_ = c.input.Close()
	// What it may still say is no answer to anything.
	_, _ = io.Copy(io.Discard, c.output)
	return c.command.Wait()
}
