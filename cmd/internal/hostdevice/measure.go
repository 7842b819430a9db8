package hostdevice

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/host"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/sensors"

	"mooring/wire"
)

// The layouts, as SQL users see them.
const (
	layoutHost         = "host"
	layoutTemperatures = "host_temperatures"
)

// hostChannels are the channels of layoutHost, in the order of measureHost.
var hostChannels = []wire.Channel{
	{Name: "cpu_used", Unit: "%"},
	{Name: "load_1m"},
	{Name: "memory_used", Unit: "%"},
	{Name: "memory_available", Unit: "B"},
	{Name: "disk_used", Unit: "%"},
	{Name: "disk_free", Unit: "B"},
	{Name: "uptime", Unit: "s"},
}

// measureHost reads this machine; a value that it can't tell is nil.
func measureHost(ctx context.Context, path string) []wire.Value {
	values := make([]wire.Value, len(hostChannels))
	set := func(i int, number float64) { values[i] = wire.Value{Kind: wire.ValueNumber, Number: number} }
	// Since the call before; the first call has none and tells nothing useful.
	if used, err := cpu.PercentWithContext(ctx, 0, false); err == nil && len(used) == 1 {
		set(0, used[0])
	}
	if average, err := load.AvgWithContext(ctx); err == nil {
		set(1, average.Load1)
	}
	if memory, err := mem.VirtualMemoryWithContext(ctx); err == nil {
		set(2, memory.UsedPercent)
		set(3, float64(memory.Available))
	}
	if usage, err := disk.UsageWithContext(ctx, path); err == nil {
		set(4, usage.UsedPercent)
		set(5, float64(usage.Free))
	}
	if uptime, err := host.UptimeWithContext(ctx); err == nil {
		set(6, float64(uptime))
	}
	return values
}

// temperature is one sensor's reading in degrees Celsius.
type temperature struct {
	channel string
	value   float64
}

// measureTemperatures reads the sensors there are, in the order of their names.
// A sensor that fails does not hide the others.
func measureTemperatures(ctx context.Context) []temperature {
	stats, _ := sensors.TemperaturesWithContext(ctx) // its error lists single sensors
	var found []temperature
	for _, stat := range stats {
		if stat.Temperature == 0 {
			continue // how sensors say that nothing is connected
		}
		found = append(found, temperature{channelName(stat.SensorKey), stat.Temperature})
	}
	slices.SortStableFunc(found, func(a, b temperature) int { return cmp.Compare(a.channel, b.channel) })
	used := make(map[string]bool, len(found))
	for i, reading := range found { // two cores may report under one name
		for n := 2; used[found[i].channel]; n++ {
			found[i].channel = fmt.Sprintf("%s_%d", reading.channel, n)
		}
		used[found[i].channel] = true
	}
	return found[:min(len(found), wire.DefaultMaxChannels)]
}

// channelName turns a sensor's name into one that the protocol takes.
func channelName(sensor string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("_.-/", r):
			return r
		default:
			return '_'
		}
	}, sensor)
	if name == "" {
		return "sensor"
	}
	return name[:min(len(name), wire.MaxName-4)] // room for a number behind it
}
