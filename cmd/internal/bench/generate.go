package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

// generation is what a generator process is to do: to be many devices of one
// server. The limit of open files holds for each process, so a large fleet is
// several of them.
type generation struct {
	Address string
	Tokens  []string
	Base    int64 // time of row 0
	Source  int   // number of the first address to connect from
	Active  int   // devices whose turn it is at a time
	Frames  int   // of a turn
}

// Commands to a generator.
const (
	commandConnect = "connect" // all devices, and have a row of each acknowledged
	commandTurns   = "turns"   // begin to send
	commandCount   = "count"   // answered with rows acknowledged and turns begun so far
	commandEnd     = "end"     // send nothing more, drop all connections
)

// generate obeys commands until its input ends; then it exits, with whatever
// connections there are: it holds nothing that must be put away.
func generate(ctx context.Context, told *generation, in *bufio.Scanner, out io.Writer) error {
	t := &turns{template: newTemplate(tenRows), active: told.Active, frames: told.Frames}
	for i, token := range told.Tokens {
		t.fleet = append(t.fleet, &device{token: token, base: told.Base, source: sourceAddress(told.Source + i/perAddress)})
	}
	c := &crowd{fleet: t.fleet, address: told.Address, first: introduction(oneRow)}
	c.then = t.follow
	commands := make(chan string)
	go func() {
		for in.Scan() {
			commands <- in.Text()
		}
		os.Exit(0)
	}()
	fmt.Fprintln(out, "ready")
	for command := range commands {
		answer := "done"
		switch command {
		case commandConnect:
			if err := c.join(ctx); err != nil {
				answer = err.Error()
			}
		case commandTurns:
			t.start()
		case commandCount:
			answer = strconv.FormatUint(t.acked.Load(), 10) + " " + strconv.FormatInt(t.begun.Load(), 10)
		case commandEnd:
			err := t.end()
			lost := c.lost.Load()
			c.leave()
			switch {
			case err != nil:
				answer = err.Error()
			case lost > 0:
				answer = fmt.Sprintf("%d connections were lost", lost)
			}
		default:
			answer = "unknown command"
		}
		fmt.Fprintln(out, answer)
	}
	return nil
}

// swarm is a fleet in processes of its own: generators, and the servers that
// they are connected to, one for each.
type swarm struct {
	bench      *bench
	servers    []*child
	generators []*child
	connecting time.Duration
}

// startSwarm starts as many servers and generators as the limit of open files
// makes necessary, and connects count devices.
func (b *bench) startSwarm(ctx context.Context, count int) (s *swarm, err error) {
	if _, err := b.devices(ctx, count, 0); err != nil {
		return nil, err
	}
	s = &swarm{bench: b}
	defer func() {
		if err != nil {
			_ = s.stop()
		}
	}()
	parts := (count + b.cfg.PerServer - 1) / b.cfg.PerServer
	base := now()
	for part := range parts {
		told := b.order()
		told.Gateway = fmt.Sprintf("bench-%d", part+1)
		told.Writers = max(1, told.Writers/parts)
		server, err := startChild(ctx, told, b.cfg.Errors)
		if err != nil {
			return s, err
		}
		s.servers = append(s.servers, server)
		g := &generation{
			Address: server.address, Base: base, Frames: b.cfg.TurnFrames,
			Source: 1 + part*(1+b.cfg.PerServer/perAddress),
			Active: max(1, standingFrames/b.cfg.Writers*told.Writers/b.cfg.TurnFrames),
		}
		for i := part; i < count; i += parts {
			g.Tokens = append(g.Tokens, b.fleet[i].Token)
		}
		generator, err := startChild(ctx, order{Generation: g}, b.cfg.Errors)
		if err != nil {
			return s, err
		}
		s.generators = append(s.generators, generator)
	}
	begun := time.Now()
	if err := s.all(commandConnect); err != nil {
		return s, err
	}
	s.connecting = time.Since(begun)
	return s, ctx.Err()
}

// all has every generator do something, at the same time.
func (s *swarm) all(command string) error {
	return forAll(s.generators, len(s.generators), func(g *child) error { return g.tell(command) })
}

// count is rows acknowledged and turns begun so far.
func (s *swarm) count() (rows, turns uint64, err error) {
	for _, generator := range s.generators {
		answer, err := generator.ask(commandCount)
		if err != nil {
			return 0, 0, err
		}
		var r, t uint64
		if _, err := fmt.Sscan(answer, &r, &t); err != nil {
			return 0, 0, fmt.Errorf("generator: %q: %w", answer, err)
		}
		rows, turns = rows+r, turns+t
	}
	return rows, turns, nil
}

// stop ends all processes.
func (s *swarm) stop() error {
	_ = forAll(s.generators, max(1, len(s.generators)), (*child).stop)
	return forAll(s.servers, max(1, len(s.servers)), (*child).stop)
}
