package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"mooring/cmd/internal/app"
	"mooring/devices"
)

type deviceCommands struct {
	Add               deviceAddCommand               `cmd:"" help:"Add a device, or a fleet, and print the token."`
	List              deviceListCommand              `cmd:"" help:"List devices."`
	Show              deviceShowCommand              `cmd:"" help:"Show all about a device."`
	Why               deviceWhyCommand               `cmd:"" help:"Say why a device was last refused, closed or throttled."`
	Disable           deviceDisableCommand           `cmd:"" help:"Keep a device out; ends its connection at once."`
	Enable            deviceEnableCommand            `cmd:"" help:"Let a disabled device in again."`
	Rotate            deviceRotateCommand            `cmd:"" help:"Give a device a new token."`
	Quota             deviceQuotaCommand             `cmd:"" help:"Say how much a device may send a second."`
	RevokeCertificate deviceRevokeCertificateCommand `cmd:"" help:"Make a TLS client certificate a credential no longer; ends connections that showed it."`
	Remove            deviceRemoveCommand            `cmd:"" help:"Remove a device with its tokens and sessions; with --purge its readings too."`
}

// withAdmin connects to the registry, runs act and gives its errors exit codes
// and advice.
func withAdmin(ctx context.Context, location app.Location, act func(*devices.Admin) error) error {
	database, err := connect(location)
	if err != nil {
		return err
	}
	admin, err := devices.OpenAdmin(ctx, database.URL)
	if err != nil {
		return databaseError(err)
	}
	defer admin.Close()
	return deviceError(act(admin))
}

// databaseError is for work in which all that fails is the database.
func databaseError(err error) error {
	return &codedError{exitNoDatabase, unreachable(err)}
}

func deviceError(err error) error {
	var coded *codedError
	switch {
	case err == nil || errors.As(err, &coded):
		return err
	case errors.Is(err, devices.ErrNotFound):
		return &codedError{exitNoDevice, fmt.Errorf("%w.\nmooring device list shows those there are", trimDot(err))}
	case errors.Is(err, devices.ErrExists):
		return &codedError{exitExists, fmt.Errorf("%w.\nFor a new token: mooring device rotate", trimDot(err))}
	case errors.Is(err, devices.ErrHasReadings):
		return fmt.Errorf("%w.\nKeep the device out with: mooring device disable; or delete its readings too, for good, with: --purge", trimDot(err))
	case strings.Contains(err.Error(), "SQLSTATE 42P01"), strings.Contains(err.Error(), "SQLSTATE 3F000"):
		return &codedError{exitNoDatabase, fmt.Errorf("%w.\nThe database has no schema yet: start the server on it, or run mooring migrate up", trimDot(err))}
	}
	if field, ok := errors.AsType[*devices.FieldError](err); ok {
		return &codedError{exitUsage, field}
	}
	return err
}

type deviceDisableCommand struct {
	Name string `arg:"" help:"Name of the device."`
	app.Location

	JSON bool `name:"json" help:"As JSON."`
}

// Run keeps the device out.
func (d *deviceDisableCommand) Run(ctx context.Context, out *console) error {
	return withAdmin(ctx, d.Location, func(admin *devices.Admin) error {
		if err := admin.Disable(ctx, d.Name); err != nil {
			return err
		}
		return out.changed(d.JSON, d.Name, "disabled", "%s is disabled and can't connect. Its readings stay.")
	})
}

type deviceEnableCommand struct {
	Name string `arg:"" help:"Name of the device."`
	app.Location

	JSON bool `name:"json" help:"As JSON."`
}

// Run lets the device in again.
func (d *deviceEnableCommand) Run(ctx context.Context, out *console) error {
	return withAdmin(ctx, d.Location, func(admin *devices.Admin) error {
		if err := admin.Enable(ctx, d.Name); err != nil {
			return err
		}
		return out.changed(d.JSON, d.Name, "enabled", "%s may connect again. It tries by itself, 15 minutes or more after it was turned away.")
	})
}

type deviceRemoveCommand struct {
	Name string `arg:"" help:"Name of the device."`
	app.Location

	Purge bool `help:"Delete its readings too, for good."`
	JSON  bool `name:"json" help:"As JSON."`
}

// Run removes the device.
func (d *deviceRemoveCommand) Run(ctx context.Context, out *console) error {
	return withAdmin(ctx, d.Location, func(admin *devices.Admin) error {
		if err := admin.Remove(ctx, d.Name, d.Purge); err != nil {
			return err
		}
		return out.changed(d.JSON, d.Name, "removed", "%s is removed.")
	})
}

// changed reports a change in words or as JSON.
func (c *console) changed(asJSON bool, name, state, words string) error {
	if asJSON {
		return c.printJSON(map[string]string{"name": name, "state": state})
	}
	fmt.Fprintf(c.stdout, words+"\n", name)
	return nil
}
