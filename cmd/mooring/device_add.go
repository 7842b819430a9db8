package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"mooring/cmd/internal/app"
	"mooring/devices"
)

// credentialFlags describe a device to be added.
type credentialFlags struct {
	Model    string            `placeholder:"TEXT" help:"Model of the device."`
	Label    map[string]string `placeholder:"KEY=VALUE" help:"Label, for queries by site and the like; may be repeated."`
	Lifetime app.Span          `default:"0" help:"How long the token is good for, as 90d; 0: until it is revoked."`
}

type deviceAddCommand struct {
	Name string `arg:"" optional:"" help:"Name of the device: 1 to 128 bytes without spaces and colons."`
	app.Location
	credentialFlags

	Count        int    `placeholder:"N" help:"Add a fleet of so many devices instead, named by --prefix and a number."`
	Prefix       string `placeholder:"TEXT" help:"What the names of a fleet begin with."`
	First        int    `default:"1" help:"Number of a fleet's first device."`
	Out          string `placeholder:"FILE" help:"Write names and tokens to a new CSV file that only you may read."`
	UnlessExists bool   `help:"Do nothing, successfully, if the --out file exists."`
	JSON         bool   `name:"json" help:"As JSON."`
}

func (deviceAddCommand) Help() string {
	return `A token is shown this once; only its hash is stored.

  mooring device add boiler-7
  TOKEN=$(mooring device add boiler-7 --label site=north)
  mooring device add --count 1000 --prefix sim- --out tokens.csv`
}

// Validate checks what kong can't.
func (d *deviceAddCommand) Validate() error {
	switch {
	case d.Name != "" && d.Count != 0:
		return errors.New("either a name or --count, not both")
	case d.Name == "" && d.Count == 0:
		return errors.New("a name is needed, or --count and --prefix for a fleet")
	case d.Count != 0 && d.Prefix == "":
		return errors.New("--count needs --prefix")
	case d.Count == 0 && d.Prefix != "":
		return errors.New("--prefix needs --count")
	case d.UnlessExists && d.Out == "":
		return errors.New("--unless-exists needs --out")
	case d.Name != "":
		return devices.CheckName(d.Name)
	}
	return nil
}

// Run adds one device or many.
func (d *deviceAddCommand) Run(ctx context.Context, out *console) error {
	if d.UnlessExists {
		if _, err := os.Stat(d.Out); err == nil {
			fmt.Fprintf(out.stderr, "%s exists; nothing was added.\n", d.Out)
			return nil
		}
	}
	return withAdmin(ctx, d.Location, func(admin *devices.Admin) error {
		// The file first: tokens that can't be written down would be lost.
		file, err := d.createFile()
		if err != nil {
			return err
		}
		added, err := d.add(ctx, admin)
		if err == nil {
			err = d.show(out, file, added)
		}
		if file == nil {
			return err
		}
		err = errors.Join(err, file.Close())
		if len(added) == 0 {
			err = errors.Join(err, os.Remove(d.Out))
		}
		return err
	})
}

func (d *deviceAddCommand) createFile() (*os.File, error) {
	if d.Out == "" {
		return nil, nil //nolint:nilnil // no file is wanted
	}
	file, err := os.OpenFile(d.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, usageErrorf("--out: %s exists; tokens never overwrite a file", d.Out)
	}
	if err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	return file, nil
}

func (d *deviceAddCommand) add(ctx context.Context, admin *devices.Admin) ([]devices.Added, error) {
	lifetime := time.Duration(d.Lifetime)
	if d.Count == 0 {
		device, token, err := admin.Add(ctx, devices.NewDevice{Name: d.Name, Model: d.Model, Labels: d.Label, TokenLifetime: lifetime})
		if err != nil {
			return nil, err
		}
		return []devices.Added{{Device: device, Token: token}}, nil
	}
	return admin.AddMany(ctx, devices.NewDevices{
		Prefix: d.Prefix, Count: d.Count, First: d.First, Model: d.Model, Labels: d.Label, TokenLifetime: lifetime,
	})
}

// addedJSON is a new device as --json shows it.
type addedJSON struct {
	Name  string `json:"name"`
	Token string `json:"token,omitempty"` // absent if it went to a file
}

func (d *deviceAddCommand) show(out *console, file *os.File, added []devices.Added) error {
	if file != nil {
		if err := writeTokens(file, added); err != nil {
			return fmt.Errorf("--out: %w", err)
		}
	}
	if d.JSON {
		list := make([]addedJSON, len(added))
		for i, device := range added {
			list[i].Name = device.Device.Name
			if file == nil {
				list[i].Token = device.Token
			}
		}
		if d.Count == 0 {
			return out.printJSON(list[0])
		}
		return out.printJSON(list)
	}
	switch {
	case file != nil:
		fmt.Fprintf(out.stdout, "%d added; their tokens are in %s.\n", len(added), d.Out)
	case d.Count == 0:
		// Words apart from the token, so that a shell can catch it.
		fmt.Fprintf(out.stderr, "%s may connect. Its token, shown this once:\n", d.Name)
		fmt.Fprintln(out.stdout, added[0].Token)
	default:
		return writeTokens(out.stdout, added)
	}
	return nil
}

// writeTokens writes name,token lines under a header.
func writeTokens(w io.Writer, added []devices.Added) error {
	buffered := bufio.NewWriter(w)
	lines := csv.NewWriter(buffered)
	_ = lines.Write([]string{"name", "token"}) // Error, below, tells
	for _, device := range added {
		_ = lines.Write([]string{device.Device.Name, device.Token})
	}
	lines.Flush()
	return errors.Join(lines.Error(), buffered.Flush())
}

type deviceRotateCommand struct {
	Name string `arg:"" help:"Name of the device."`
	app.Location

	Now      bool     `help:"Revoke the older tokens at once, which ends a connection that uses one."`
	Grace    app.Span `default:"1d" help:"How long the token in use stays good."`
	Lifetime app.Span `default:"0" help:"How long the new token is good for; 0: until it is revoked."`
	JSON     bool     `name:"json" help:"As JSON."`
}

func (deviceRotateCommand) Help() string {
	return "Two tokens of a device are good at a time, so it can be given the new one while it goes on with the old one."
}

// Run gives the device a new token.
func (d *deviceRotateCommand) Run(ctx context.Context, out *console) error {
	return withAdmin(ctx, d.Location, func(admin *devices.Admin) error {
		_, token, err := admin.Rotate(ctx, d.Name, devices.Rotation{
			Now: d.Now, Grace: time.Duration(d.Grace), Lifetime: time.Duration(d.Lifetime),
		})
		if err != nil {
			return err
		}
		if d.JSON {
			return out.printJSON(addedJSON{Name: d.Name, Token: token})
		}
		until := "is revoked"
		if !d.Now {
			until = "stays good for " + d.Grace.String()
		}
		fmt.Fprintf(out.stderr, "The old token of %s %s. The new one, shown this once:\n", d.Name, until)
		fmt.Fprintln(out.stdout, token)
		return nil
	})
}
