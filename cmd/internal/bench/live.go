package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"mooring/devices"
)

// What live measures.
const (
	liveViewers = 1000
	liveDevices = 100 // of each viewer
)

// live: how fast rows are taken while many look on, beside the same while nobody
// does: before, while they read, while they stand still, and after.
func (b *bench) watched(ctx context.Context) (s Scenario, err error) {
	b.say("live: %d devices, nobody looks", b.cfg.Devices)
	if err := b.fresh(ctx); err != nil {
		return s, err
	}
	fleet, err := b.devices(ctx, b.cfg.Devices, now())
	if err != nil {
		return s, err
	}
	token, err := b.viewerToken(ctx)
	if err != nil {
		return s, err
	}
	server, err := b.server(ctx)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	l := &load{template: newTemplate(tenRows), fleet: fleet}
	if err := connect(ctx, fleet, server.address, introduction(tenRows)); err != nil {
		return s, errors.Join(err, l.end())
	}
	l.start()
	defer func() { err = errors.Join(err, l.end()) }()

	var alone outcome
	outcomes := make(map[string]outcome)
	for _, phase := range []string{"", "reading", "", "still", ""} {
		var seen *audience
		if phase != "" {
			b.say("live: %d viewers of %d devices each, %s", liveViewers, min(liveDevices, b.cfg.Devices), phase)
			if seen, err = b.gather(ctx, server.address, token, phase == "reading"); err != nil {
				return s, err
			}
		}
		o, err := b.measure(ctx, server, l, "live-"+phase, nil)
		if seen != nil {
			s.add("viewers_bytes_per_s_"+phase, float64(seen.leave())/o.elapsed.Seconds())
		}
		if err != nil {
			return s, err
		}
		if phase == "" {
			alone = alone.and(&o)
		} else {
			outcomes[phase] = o
		}
	}
	s.add("rows_per_s_alone", alone.rowsPerSecond())
	for _, phase := range []string{"reading", "still"} {
		o := outcomes[phase]
		s.addAgainst("rows_per_s_"+phase, o.rowsPerSecond(), "rows_per_s_alone")
		s.want("ratio_"+phase, o.rowsPerSecond()/alone.rowsPerSecond(), atLeast(0.95))
		o.addSuffixed(&s, "_"+phase)
	}
	alone.addSuffixed(&s, "_alone")
	s.note("%d devices send frames of %d rows as fast as their windows allow; each of %d viewers looks at %d of them once a second; the viewers are in the generator's process and share the cores with what is measured", b.cfg.Devices, tenRows.rows, liveViewers, min(liveDevices, b.cfg.Devices))
	return s, nil
}

// viewerToken gives a user who may look on.
func (b *bench) viewerToken(ctx context.Context) (string, error) {
	admin, err := devices.OpenAdmin(ctx, b.cluster.URL())
	if err != nil {
		return "", err
	}
	defer admin.Close()
	_, token, err := admin.AddUser(ctx, fmt.Sprintf("viewer-%d", time.Now().UnixNano()), devices.RoleViewer)
	return token, err
}

// audience are viewers.
type audience struct {
	conns   []net.Conn
	running sync.WaitGroup
	bytes   atomic.Int64
}

// gather brings viewers in, each with devices of its own choice, and returns when
// all are told what there is. Those that stand still read nothing.
func (b *bench) gather(ctx context.Context, address, token string, read bool) (*audience, error) {
	c := &audience{conns: make([]net.Conn, liveViewers)}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // which devices, no secret
	queries := make([]string, liveViewers)
	for i := range queries {
		names := make(url.Values)
		for _, j := range random.Perm(b.cfg.Devices)[:min(liveDevices, b.cfg.Devices)] {
			names.Add("device", b.fleet[j].Device.Name)
		}
		queries[i] = names.Encode()
	}
	next := make([]int, liveViewers)
	for i := range next {
		next[i] = i
	}
	err := forAll(next, 4, func(i int) error {
		// A user may ask so often; the names are many for one request's header.
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		c.conns[i] = conn
		_, err = fmt.Fprintf(conn, "GET /v1/live?%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", queries[i], address, token)
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
			c.running.Go(func() {
				buffer := make([]byte, 32<<10)
				for {
					n, err := conn.Read(buffer)
					c.bytes.Add(int64(n))
					if err != nil {
						return
					}
				}
			})
		}
		return nil
	})
	c.bytes.Store(0)
	if err != nil {
		c.leave()
		return nil, err
	}
	return c, nil
}

// leave ends them and gives the bytes that they read.
func (c *audience) leave() int64 {
	bytes := c.bytes.Load()
	for _, conn := range c.conns {
		if conn != nil {
			_ = conn.Close()
		}
	}
	c.running.Wait()
	return bytes
}
