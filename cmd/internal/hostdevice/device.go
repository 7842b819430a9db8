package hostdevice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"mooring/client"
	"mooring/wire"
)

// Config says where to send to and how often to measure.
type Config struct {
	URL   string // of the server's endpoint; required
	Token string // of the device; required
	// Interval is the time between two samples. Defaults to 1 s.
	Interval time.Duration
	// Path names the file system whose usage is measured. Defaults to the root.
	Path string
	// Drain is how long Run waits, after its context has ended, until the server
	// has acknowledged what was measured. Defaults to 10 s.
	Drain time.Duration
	// Logger gets what happens. Defaults to discarding it.
	Logger *slog.Logger
}

// Device is this machine as a device.
type Device struct {
	cfg          Config
	client       *client.Client
	host         client.LayoutID
	temperatures client.LayoutID
	sensors      []string           // channels of the temperatures' layout; none: no sensors
	intervals    chan time.Duration // asked for by commands; the latest counts
}

// New looks at which sensors there are.
func New(ctx context.Context, cfg Config) (*Device, error) {
	if cfg.Interval <= 0 {
		cfg.Interval = time.Second
	}
	if cfg.Path == "" {
		cfg.Path = rootPath()
	}
	if cfg.Drain <= 0 {
		cfg.Drain = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Device{cfg: cfg, intervals: make(chan time.Duration, 1)}
	connection, err := client.New(client.Config{
		URL: cfg.URL, Token: cfg.Token, Model: "host", Firmware: runtime.Version(), Logger: cfg.Logger,
		OnCommand: d.onCommand,
	})
	if err != nil {
		return nil, err
	}
	d.client = connection
	if d.host, err = connection.Layout(layoutHost, hostChannels); err != nil {
		return nil, fmt.Errorf("host device: %w", err)
	}
	var channels []wire.Channel
	for _, reading := range measureTemperatures(ctx) {
		d.sensors = append(d.sensors, reading.channel)
		channels = append(channels, wire.Channel{Name: reading.channel, Unit: "°C"})
	}
	if len(channels) > 0 {
		if d.temperatures, err = connection.Layout(layoutTemperatures, channels); err != nil {
			return nil, fmt.Errorf("host device: %w", err)
		}
	}
	measureHost(ctx, cfg.Path) // the base of the first processor usage
	return d, nil
}

// Stats tells how far the device got.
func (d *Device) Stats() client.Stats { return d.client.Stats() }

// Run measures until ctx ends, then waits until everything is acknowledged.
func (d *Device) Run(ctx context.Context) error {
	connected, disconnect := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- d.client.Run(connected) }()

	err := d.measure(ctx)
	if err == nil {
		drain, cancel := context.WithTimeout(connected, d.cfg.Drain)
		if err = d.client.WaitAcked(drain); err != nil {
			err = fmt.Errorf("host device: %d samples are not acknowledged: %w", d.Stats().Rows, err)
		}
		cancel()
	}
	disconnect()
	if runErr := <-ended; runErr != nil && !errors.Is(runErr, context.Canceled) {
		err = errors.Join(err, runErr)
	}
	return err
}

func (d *Device) measure(ctx context.Context) error {
	ticker := time.NewTicker(d.cfg.Interval)
	defer ticker.Stop()
	for at := time.Now(); ; { // the first sample at once
		if err := d.sample(ctx, at); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case interval := <-d.intervals:
			ticker.Reset(interval)
			at = time.Now()
		case at = <-ticker.C:
		}
	}
}

// sample measures once. A full buffer loses the sample, not the device.
func (d *Device) sample(ctx context.Context, at time.Time) error {
	_, err := d.client.Append(d.host, at, measureHost(ctx, d.cfg.Path)...)
	if err == nil && len(d.sensors) > 0 {
		_, err = d.client.Append(d.temperatures, at, d.temperatureValues(ctx)...)
	}
	if errors.Is(err, client.ErrFull) {
		d.cfg.Logger.Warn("the host device's buffer is full; a sample is lost")
		return nil
	}
	return err
}

// temperatureValues puts readings into the layout's order; a sensor that went
// silent has no reading, one that is new is left out.
func (d *Device) temperatureValues(ctx context.Context) []wire.Value {
	now := make(map[string]float64)
	for _, reading := range measureTemperatures(ctx) {
		now[reading.channel] = reading.value
	}
	values := make([]wire.Value, len(d.sensors))
	for i, sensor := range d.sensors {
		if value, ok := now[sensor]; ok {
			values[i] = wire.Value{Kind: wire.ValueNumber, Number: value}
		}
	}
	return values
}

func rootPath() string {
	if runtime.GOOS == "windows" {
		return `C:\`
	}
	return "/"
}
