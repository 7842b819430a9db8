//go:build linux

package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"mooring/internal/loopback"
)

// ServerOptions are what one server is started with. The zero value is usual.
type ServerOptions struct {
	// Name is the gateway's name. Defaults to "gateway-1" and so on.
	Name string
	// DatabaseURL defaults to the stage's.
	DatabaseURL string
	// Flags are further flags of mooring serve.
	Flags []string
	// Env is further environment: "GOMEMLIMIT=64MiB".
	Env []string
	// Limits is a line of the shell run before the server: "ulimit -n 64".
	Limits string
}

// Server is a mooring serve process, or a row of them at one address.
type Server struct {
	stage   *Stage
	options ServerOptions
	addr    string
	admin   string // where it serves metrics
	logPath string

	mu      sync.Mutex
	process *process // nil: never started
	watched chan struct{}

	peak atomic.Int64 // bytes resident, of all processes so far
}

// NewServer starts one more server on the stage's database. Start has started
// the first.
func (s *Stage) NewServer(options ServerOptions) *Server {
	s.tb.Helper()
	server := s.server(options)
	server.Start()
	return server
}

func (s *Stage) server(options ServerOptions) *Server {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if options.Name == "" {
		options.Name = fmt.Sprintf("gateway-%d", len(s.servers)+1)
	}
	if options.DatabaseURL == "" {
		options.DatabaseURL = s.DatabaseURL
	}
	server := &Server{
		stage: s, options: options, addr: loopback.FreeAddress(s.tb), admin: loopback.FreeAddress(s.tb),
		logPath: filepath.Join(s.dir, options.Name+".log"),
	}
	s.servers = append(s.servers, server)
	return server
}

// Options are what the next Start uses; they may be changed while the server is
// down.
func (v *Server) Options() *ServerOptions { return &v.options }

// Addr is host and port; it stays the same over restarts.
func (v *Server) Addr() string { return v.addr }

// StreamURL is where devices connect.
func (v *Server) StreamURL() string { return "ws://" + v.addr + "/v1/stream" }

// Start starts the server and waits until it serves. It must not be running.
func (v *Server) Start() {
	v.stage.tb.Helper()
	v.Launch()
	if err := v.AwaitServing(Patience); err != nil {
		v.stage.tb.Fatalf("%v\n%s", err, tail(v.Log(), 30))
	}
}

// Launch starts the server and does not wait.
func (v *Server) Launch() {
	v.stage.tb.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.process != nil && v.process.alive() {
		v.stage.tb.Fatalf("faults: server %s is running", v.options.Name)
	}
	log, err := os.OpenFile(v.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		v.stage.tb.Fatalf("faults: %v", err)
	}
	defer log.Close()
	fmt.Fprintln(log, startMark)
	arguments := append([]string{
		"serve", "--listen", v.addr, "--admin-listen", v.admin, "--database-url", v.options.DatabaseURL, "--gateway", v.options.Name,
		"--spread", "1s", "--grace", "2s", "--heartbeat", "5s",
	}, v.options.Flags...)
	// The race detector would let a process that is done sleep for a second, for
	// reports of goroutines that go on; a server has waited for all of its own.
	p, err := launch(log, log, append([]string{"GORACE=halt_on_error=0 atexit_sleep_ms=0"}, v.options.Env...), v.options.Limits, v.stage.program("mooring"), arguments...)
	if err != nil {
		v.stage.tb.Fatal(err)
	}
	v.process, v.watched = p, make(chan struct{})
	go v.watch(p, v.watched)
}

const startMark = "=== faults: the server is started ==="

// AwaitServing waits until the server that was launched last serves.
func (v *Server) AwaitServing(limit time.Duration) error {
	p := v.current()
	return await(limit, func() error {
		log := v.Log()
		if strings.Contains(log[strings.LastIndex(log, startMark)+1:], "mooring serves") {
			return nil
		}
		if !p.alive() {
			return waitEndedError{fmt.Errorf("faults: server %s ended with %d instead of serving", v.options.Name, p.cmd.ProcessState.ExitCode())}
		}
		return fmt.Errorf("faults: server %s does not serve after %v", v.options.Name, limit)
	})
}

func (v *Server) current() *process {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.process == nil {
		v.stage.tb.Fatalf("faults: server %s was never started", v.options.Name)
	}
	return v.process
}

// watch notes the most memory that the process ever had.
func (v *Server) watch(p *process, done chan struct{}) {
	defer close(done)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		if bytes, err := statusBytes(p.pid(), "VmHWM"); err == nil && bytes > v.peak.Load() {
			v.peak.Store(bytes)
		}
		select {
		case <-ticker.C:
		case <-p.ended:
			return
		}
	}
}

// PID is the process id of the running, or last, process.
func (v *Server) PID() int { return v.current().pid() }

// Alive reports whether the process runs.
func (v *Server) Alive() bool { return v.current().alive() }

// Kill kills the server with SIGKILL and waits for its end.
func (v *Server) Kill() { v.current().kill() }

// Terminate asks the server to stop with SIGTERM and waits for its end. It
// returns the exit code and how long that took.
func (v *Server) Terminate() (code int, took time.Duration) {
	v.stage.tb.Helper()
	began := time.Now()
	v.Signal(syscall.SIGTERM)
	return v.Wait(), time.Since(began)
}

// Signal sends a signal and does not wait.
func (v *Server) Signal(signal syscall.Signal) { v.current().signal(signal) }

// Wait waits for the server's end and returns the exit code; -1: a signal.
func (v *Server) Wait() int {
	v.stage.tb.Helper()
	code, err := v.current().wait(Patience)
	if err != nil {
		v.stage.tb.Fatalf("%v\n%s", err, tail(v.Log(), 30))
	}
	return code
}

// Pause freezes the server: connections stay open, nothing answers.
func (v *Server) Pause() { v.Signal(syscall.SIGSTOP) }

// Resume thaws a paused server.
func (v *Server) Resume() { v.Signal(syscall.SIGCONT) }

// Memory is the resident memory now, in bytes; 0 while the server is down.
func (v *Server) Memory() int64 {
	bytes, err := statusBytes(v.PID(), "VmRSS")
	if err != nil {
		return 0
	}
	return bytes
}

// Peak is the most memory that any process of this server had, in bytes.
func (v *Server) Peak() int64 { return v.peak.Load() }

// Log is what all processes of this server have said.
func (v *Server) Log() string {
	content, err := os.ReadFile(v.logPath)
	if err != nil {
		return ""
	}
	return string(content)
}

// Metric sums the values of a metric over all its label sets that contain every
// one of the labels, written as `outcome="committed"`. It fails while the server
// is down.
func (v *Server) Metric(name string, labels ...string) (float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+v.admin+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	sum, found := 0.0, false
	lines := bufio.NewScanner(response.Body)
lines:
	for lines.Scan() {
		series, value, ok := strings.Cut(lines.Text(), " ")
		base, set, _ := strings.Cut(series, "{")
		if !ok || base != name {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(set, label) {
				continue lines
			}
		}
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, err
		}
		sum, found = sum+number, true
	}
	if !found {
		return 0, errors.Join(fmt.Errorf("faults: no metric %s %v", name, labels), lines.Err())
	}
	return sum, nil
}

// NotReady is nil if /readyz says that devices should not come here.
func (v *Server) NotReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+v.addr+"/readyz", nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable {
		return fmt.Errorf("/readyz answers %s", response.Status)
	}
	return nil
}

// stop kills what is left and waits for the goroutines.
func (v *Server) stop() {
	v.mu.Lock()
	p, watched := v.process, v.watched
	v.mu.Unlock()
	if p != nil {
		p.kill()
		<-watched
	}
}

// complaints are what a server may never say.
func (v *Server) complaints() error {
	bads := []string{"WARNING: DATA RACE", "\npanic: "}
	if !v.stage.options.LacksMemory {
		bads = append(bads, "\nfatal error: ")
	}
	for _, bad := range bads {
		if log := v.Log(); strings.Contains(log, bad) {
			at := strings.Index(log, bad)
			return fmt.Errorf("server %s said %q:\n%s", v.options.Name, strings.TrimSpace(bad), log[at:min(len(log), at+4000)])
		}
	}
	return nil
}

// waitEndedError ends an await early.
type waitEndedError struct{ error }

// await calls try until it gives nil; its last error after the limit.
func await(limit time.Duration, try func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return nil
		}
		if end, over := errors.AsType[waitEndedError](err); over {
			return end.error
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}
