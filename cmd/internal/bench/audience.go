package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
)

// audition is what a process of viewers is to do: to look at devices of one
// server, each viewer at a choice of its own. They are a process so that their
// processor time is told apart.
type audition struct {
	Address string
	Tokens  []string // of users; one may ask only so often
	Devices []string // names of those that send
	Viewers int
	Each    int // devices of a viewer
}

// Commands to a process of viewers besides commandCount, all answered with the
// bytes that were read so far, or with what went wrong.
const (
	commandRead  = "read"  // come, and read what comes
	commandStill = "still" // come, and read nothing
	commandLeave = "leave" // be gone
)

// stillBuffer is what the kernel takes for a viewer that stands still.
const stillBuffer = 4 << 10

// gatherers is how many viewers come at a time.
const gatherers = 8

// attend obeys commands until its input ends.
func attend(ctx context.Context, told *audition, in *bufio.Scanner, out io.Writer) error {
	fmt.Fprintln(out, "ready")
	a := new(audience)
	for in.Scan() {
		answer := "0"
		switch command := in.Text(); command {
		case commandRead, commandStill:
			var err error
			if a, err = gather(ctx, told, command == commandRead); err != nil {
				answer = err.Error()
			}
		case commandCount:
			answer = strconv.FormatInt(a.read.Load(), 10)
		case commandLeave:
			a.leave()
		default:
			answer = "unknown command"
		}
		fmt.Fprintln(out, answer)
	}
	return in.Err()
}

// audience are viewers.
type audience struct {
	conns   []net.Conn
	running sync.WaitGroup
	read    atomic.Int64 // bytes
}

// gather brings viewers in, the same with every call, and returns when all were
// answered. Those that stand still read nothing more.
func gather(ctx context.Context, told *audition, read bool) (*audience, error) {
	a := &audience{conns: make([]net.Conn, told.Viewers)}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // which devices, no secret
	queries := make([]string, told.Viewers)
	numbers := make([]int, told.Viewers)
	for i := range queries {
		names := make(url.Values)
		for _, j := range random.Perm(len(told.Devices))[:min(told.Each, len(told.Devices))] {
			names.Add("device", told.Devices[j])
		}
		queries[i], numbers[i] = names.Encode(), i
	}
	err := forAll(numbers, gatherers, func(i int) error {
		dialer := net.Dialer{Control: func(_, _ string, socket syscall.RawConn) (err error) {
			if read {
				return nil
			}
			fault := socket.Control(func(fd uintptr) {
				// Else the kernel would read for them, for seconds.
				err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, stillBuffer)
			})
			return errors.Join(err, fault)
		}}
		conn, err := dialer.DialContext(ctx, "tcp", told.Address)
		if err != nil {
			return err
		}
		a.conns[i] = conn
		_, err = fmt.Fprintf(conn, "GET /v1/live?%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n",
			queries[i], told.Address, told.Tokens[i%len(told.Tokens)])
		if err != nil {
			return err
		}
		status := make([]byte, len("HTTP/1.1 200"))
		if _, err := io.ReadFull(conn, status); err != nil {
			return err
		}
		if string(status) != "HTTP/1.1 200" {
			return fmt.Errorf("a viewer was answered %s", status)
		}
		if read {
			a.running.Go(func() { a.listen(conn) })
		}
		return nil
	})
	if err != nil {
		a.leave()
		return a, err
	}
	return a, nil
}

// listen counts what comes until the connection ends.
func (a *audience) listen(conn net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buffer)
		a.read.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// leave ends them.
func (a *audience) leave() {
	for _, conn := range a.conns {
		if conn != nil {
			_ = conn.Close()
		}
	}
	a.running.Wait()
}
