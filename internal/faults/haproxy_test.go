//go:build linux

package faults_test

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
	"mooring/internal/loopback"
	"mooring/internal/pgtest"
)

// haproxyConfig is docs/OPERATIONS.md's, on loopback, with quicker checks and a
// page that tells what they found.
const haproxyConfig = `
global
  maxconn 4000
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  timeout http-request 10s
  timeout tunnel 1h
  timeout check 5s
  option redispatch 1
  retries 3
  retry-on conn-failure empty-response 503
listen statistics
  bind STATISTICS
  stats enable
  stats uri /
frontend devices
  bind FRONT
  default_backend gateways
backend gateways
  balance leastconn
  option httpchk GET /readyz
  http-check expect status 200
  default-server check inter 200ms fall 2 rise 2
  server one ONE
  server two TWO
`

// startHAProxy runs Debian's haproxy in front of two servers until the test ends
// and returns where it listens for devices, and where it tells how they are.
func startHAProxy(t *testing.T, one, two *faults.Server) (front, statistics string) {
	t.Helper()
	path, err := exec.LookPath("haproxy")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/haproxy")
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			require.FailNow(t, "haproxy is not installed", "apt-get install haproxy")
		}
		t.Skip("haproxy is not installed: apt-get install haproxy")
	}
	front, statistics = loopback.FreeAddress(t), loopback.FreeAddress(t)
	config := strings.NewReplacer("FRONT", front, "STATISTICS", statistics, "ONE", one.Addr(), "TWO", two.Addr()).Replace(haproxyConfig)
	file := filepath.Join(pgtest.Dir(t), "haproxy.cfg") // a folder that others may enter
	require.NoError(t, os.WriteFile(file, []byte(config), 0o644))
	cmd := exec.Command(path, "-db", "-f", file)
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}} // nobody
	}
	faults.StartProgram(t, cmd)
	return front, statistics
}

// bothUp is nil if HAProxy sends devices to both servers.
func bothUp(statistics string) error {
	response, err := http.Get("http://" + statistics + "/;csv")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	page := csv.NewReader(response.Body)
	page.FieldsPerRecord = -1
	lines, err := page.ReadAll()
	if err != nil {
		return err
	}
	up := 0
	for _, line := range lines {
		const proxy, server, status = 0, 1, 17
		if len(line) <= status || line[proxy] != "gateways" || line[server] == "BACKEND" {
			continue
		}
		if line[status] != "UP" {
			return fmt.Errorf("server %s is %s", line[server], line[status])
		}
		up++
	}
	if up != 2 {
		return fmt.Errorf("%d servers are listed", up)
	}
	return nil
}

// Two servers behind HAProxy, restarted one after the other.
func TestFaultRollingRestart(t *testing.T) {
	t.Parallel()
	const devices, grace, spread = 200, 2 * time.Second, 4 * time.Second
	flags := []string{"--grace", "2s", "--spread", "4s"}
	s := faults.Start(t, faults.Options{
		Expect: "two servers behind HAProxy restarted one after the other under load: nothing acknowledged is lost, " +
			"and no device is away for longer than the grace, its slot and 3 s",
		Server: faults.ServerOptions{Flags: flags},
	})
	servers := []*faults.Server{s.Server, s.NewServer(faults.ServerOptions{Flags: flags})}
	front, statistics := startHAProxy(t, servers[0], servers[1])
	load := s.Load(faults.LoadOptions{Devices: devices, Rate: 2000, Backoff: 1, URL: "ws://" + front + "/v1/stream"})
	load.AwaitConnected(devices)
	load.AwaitAcked(4000)
	var away []float64
	for i, server := range servers {
		before := s.SQL("SELECT max(id) FROM mooring.sessions")[0][0]
		held, err := server.Metric("mooring_ingest_connections")
		require.NoError(t, err)
		require.Positive(t, held, "a restart that nobody notices shows nothing")
		code, _ := server.Terminate()
		require.Zero(t, code)
		s.Injected("SIGTERM and start")
		s.Await("all devices at the other server", func() error {
			held, err := servers[1-i].Metric("mooring_ingest_connections")
			if err == nil && held < devices {
				err = fmt.Errorf("%.0f are there", held)
			}
			return err
		})
		server.Start()
		load.AwaitAcked(4000)
		for _, gap := range comebacks(s, before) {
			away = append(away, gap.away)
		}
		s.Await("HAProxy to see it", func() error { return bothUp(statistics) })
	}
	require.GreaterOrEqual(t, len(away), devices, "the second restart moves all")
	slices.Sort(away)
	p99, most := away[len(away)*99/100], away[len(away)-1]
	s.Figure(fmt.Sprintf("%d returns: away for %.1f s at the median, %.1f s at p99, %.1f s at most, of %.0f s of grace and %.0f s of spread",
		len(away), away[len(away)/2], p99, most, grace.Seconds(), spread.Seconds()))
	require.LessOrEqual(t, most, (grace + spread + reconnecting).Seconds())
	result := load.Stop()
	require.Zero(t, result.Closes["HTTP 503"], "no device is sent away: %v", result.Closes)
	s.Verdict()
}
