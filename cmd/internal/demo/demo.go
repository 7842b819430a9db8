package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"mooring/cmd/internal/app"
	"mooring/cmd/internal/fleet"
	"mooring/cmd/internal/hostdevice"
	"mooring/cmd/internal/terminal"
	"mooring/devices"
)

// Config says how the demo runs.
type Config struct {
	Listen  string        // defaults to a free port of this machine
	For     time.Duration // how long devices measure. Defaults to 0: until ctx ends
	Devices int           // simulated ones. Defaults to 25
	Rate    int           // rows of all of them per second. Defaults to 500
	Seed    uint64        // of values and faults

	Program string // how a person calls this program, for advice

	Out    io.Writer                    // where status and results go
	Logger func(io.Writer) *slog.Logger // makes a logger that writes above the status
}

// ErrNotClean means that the server did not keep its promise.
var ErrNotClean = errors.New("the verdict is not clean")

// ErrInterrupted means that soft ended before the devices had begun: there is
// nothing to judge.
var ErrInterrupted = errors.New("interrupted while the demo was starting: there is no verdict")

// settle is how long the devices wait, once they have stopped measuring, until all is
// acknowledged; this machine as long as the simulated ones.
const settle = 30 * time.Second

// The status is redrawn often on a terminal and written seldom elsewhere.
const (
	redrawEvery = 250 * time.Millisecond
	lineEvery   = 2 * time.Second
)

// demo is one run.
type demo struct {
	cfg       Config
	live      *terminal.Live
	style     terminal.Styler
	logger    *slog.Logger
	directory string // of the ledger
	server    *app.App
	tokens    []fleet.Credential
	host      devices.Added
	link      string // opens the console, logged in, once
	hostRows  uint64 // acknowledged samples of this machine
	example   string // token of the device for examples/
	userToken string // of the user demo
}

// beforeVerdict lets a test break what the verdict is about.
var beforeVerdict = func(context.Context, *demo) error { return nil }

// Run runs the demo until Config.For has passed or soft ends, then judges it.
// The end of hard, which must not come before soft's, cuts everything short. The
// error is ErrNotClean if the verdict is bad, and something else if there is
// none.
func Run(soft, hard context.Context, cfg Config) (err error) {
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Devices == 0 {
		cfg.Devices = 25
	}
	if cfg.Rate == 0 {
		cfg.Rate = 500
	}
	d := &demo{cfg: cfg, live: terminal.NewLive(cfg.Out, lineEvery), style: terminal.NewStyler(cfg.Out)}
	d.logger = cfg.Logger(d.live)
	if d.directory, err = os.MkdirTemp("", "mooring-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.directory)) }()

	d.live.Printf("Starting a server on a PostgreSQL of its own, in a temporary directory …")
	d.server = app.New(app.Config{
		Listen: cfg.Listen, Doors: app.Doors{AdminListen: "127.0.0.1:0"}, Gateway: "demo", Throwaway: true, Logger: d.logger,
		Grace: app.Span(time.Second), // nobody is connected any more when it stops
	})
	if err := d.server.Start(soft); err != nil {
		return interrupted(soft, err)
	}
	defer func() {
		if stopErr := d.server.Stop(hard); stopErr != nil && hard.Err() == nil {
			err = errors.Join(err, stopErr)
		}
	}()
	if err := d.register(soft); err != nil {
		return interrupted(soft, err)
	}
	d.greet()
	if err := d.measure(soft, hard); err != nil {
		return err
	}
	if err := beforeVerdict(hard, d); err != nil {
		return err
	}
	return d.judge(hard)
}

// interrupted is err, unless the end of soft is why.
func interrupted(soft context.Context, err error) error {
	if soft.Err() != nil {
		return ErrInterrupted
	}
	return err
}

// register adds the devices.
func (d *demo) register(ctx context.Context) error {
	admin, err := devices.OpenAdmin(ctx, d.server.DatabaseURL())
	if err != nil {
		return err
	}
	defer admin.Close()
	added, err := admin.AddMany(ctx, devices.NewDevices{Prefix: "sim-", Count: d.cfg.Devices, Model: "simulated"})
	if err != nil {
		return err
	}
	for _, device := range added {
		d.tokens = append(d.tokens, fleet.Credential{Name: device.Device.Name, Token: device.Token})
	}
	d.host.Device, d.host.Token, err = admin.Add(ctx, devices.NewDevice{Name: hostName()})
	if err != nil {
		return err
	}
	_, d.example, err = admin.Add(ctx, devices.NewDevice{Name: exampleName})
	if err != nil {
		return err
	}
	// May command devices, and not remove them: the verdict looks at them all.
	user, token, err := admin.AddUser(ctx, "demo", devices.RoleOperator)
	if err != nil {
		return err
	}
	d.userToken = token
	secret, err := admin.NewLink(ctx, user.Name)
	d.link = d.server.ConsoleLink(secret)
	return err
}

// exampleName is the device that a person may be with a program of examples/.
const exampleName = "example-device"

// hostName is this machine's name, if a device may have it.
func hostName() string {
	if name, err := os.Hostname(); err == nil && devices.CheckName(name) == nil {
		return name
	}
	return "this-machine"
}

// greet tells a person what runs and what to do with it meanwhile.
func (d *demo) greet() {
	end := "Ctrl-C ends it"
	if d.cfg.For > 0 {
		end = "It ends in " + d.cfg.For.String()
	}
	d.live.Printf("")
	d.live.Printf("%d simulated devices that misbehave a little, and this machine (%s), send to %s.",
		d.cfg.Devices, d.host.Device.Name, d.server.URL())
	d.live.Printf("%s with a verdict. Meanwhile, the console; this link logs in once, within %.0f minutes:", end, devices.LinkFor.Minutes())
	d.live.Printf("")
	d.live.Printf("  %s", d.style.Bold(d.link))
	d.live.Printf("")
	d.live.Printf("and in another terminal:")
	d.live.Printf("")
	d.live.Printf("  curl -s http://%s/metrics | grep mooring_", d.server.AdminAddr())
	d.live.Printf("  %s command send %s identify --wait --data-dir %s", d.cfg.Program, d.host.Device.Name, d.server.Database().Embedded.DataDir)
	d.live.Printf("  psql \"$(%s dsn --data-dir %s)\"", d.cfg.Program, d.server.Database().Embedded.DataDir)
	d.live.Printf("  python3 examples/python/device_asyncio.py %s %s   # a device of yours: examples/README.md", d.server.URL(), d.example)
	d.live.Printf("  curl -sN -H 'Authorization: Bearer %s' 'http://%s/v1/live?events=readings'", d.userToken, d.server.Addr())
	d.live.Printf("")
}

// measure lets the devices run and shows how it goes.
func (d *demo) measure(soft, hard context.Context) error {
	host, err := hostdevice.New(soft, hostdevice.Config{
		URL: d.server.URL(), Token: d.host.Token, Interval: 500 * time.Millisecond, Drain: settle, Logger: d.logger,
	})
	if err != nil {
		return err
	}
	// Devices stop measuring together, and have until hard's end to be
	// acknowledged.
	measuring, stopMeasuring := context.WithCancel(soft)
	defer stopMeasuring()
	if d.cfg.For > 0 {
		measuring, stopMeasuring = context.WithTimeout(soft, d.cfg.For)
		defer stopMeasuring()
	}

	hostEnded := make(chan error, 1)
	go func() { hostEnded <- host.Run(measuring) }()
	fleetEnded := make(chan error, 1)
	go func() {
		_, err := fleet.Run(measuring, fleet.Config{
			URL: d.server.URL(), Tokens: d.tokens, Rate: d.cfg.Rate, Seed: d.cfg.Seed, Channels: 6,
			Faults: fleet.FaultsLight, Ledger: d.ledger(), Settle: settle, Logger: d.logger,
		})
		stopMeasuring() // a fleet that can't run ends the demo
		fleetEnded <- err
	}()
	statusEnded := make(chan struct{})
	watching, stopWatching := context.WithCancel(hard)
	go func() {
		defer close(statusEnded)
		d.watch(watching, func() bool { return measuring.Err() != nil })
	}()

	err = errors.Join(<-fleetEnded, <-hostEnded)
	stopWatching()
	<-statusEnded
	d.hostRows = host.Stats().RowsSettled
	if hard.Err() != nil {
		return errors.Join(hard.Err(), err)
	}
	return err
}

func (d *demo) ledger() string { return filepath.Join(d.directory, "ledger") }

// watch draws the status until ctx ends.
func (d *demo) watch(ctx context.Context, ended func() bool) {
	shown := status{
		style: d.style, url: "http://" + d.server.Addr(), begun: time.Now(), length: d.cfg.For, all: d.cfg.Devices + 1, ended: ended,
	}
	ticker := time.NewTicker(redrawEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			d.live.Clear()
			return
		case now := <-ticker.C:
			block, plain := shown.lines(now, d.server.Stats())
			d.live.Update(block, plain)
		}
	}
}

// section writes a heading.
func (d *demo) section(title string) {
	fmt.Fprintf(d.live, "\n%s\n\n", d.style.Bold(title))
}
