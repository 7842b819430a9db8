package main

import (
	"context"
	"fmt"
	"strconv"

	"mooring/cmd/internal/app"
	"mooring/devices"
)

type deviceRevokeCertificateCommand struct {
	Name   string `arg:"" help:"Name of the device."`
	Serial string `arg:"" help:"Serial number of the certificate, hexadecimal, as openssl x509 -noout -serial prints it."`
	app.Location

	Undo bool `help:"Take the revocation back."`
	JSON bool `name:"json" help:"As JSON."`
}

// Run revokes a certificate.
func (d *deviceRevokeCertificateCommand) Run(ctx context.Context, out *console) error {
	return withAdmin(ctx, d.Location, func(admin *devices.Admin) error {
		if d.Undo {
			if err := admin.ReinstateCertificate(ctx, d.Name, d.Serial); err != nil {
				return err
			}
			return out.changed(d.JSON, d.Name, "reinstated", "%s may show the certificate again.")
		}
		if err := admin.RevokeCertificate(ctx, d.Name, d.Serial); err != nil {
			return err
		}
		return out.changed(d.JSON, d.Name, "revoked", "The certificate of %s is revoked; a connection that showed it ends.")
	})
}

type deviceQuotaCommand struct {
	Name string `arg:"" help:"Name of the device."`
	app.Location

	Rows  quotaValue `placeholder:"N" help:"Rows a second; none: no limit; default: as --device-rows of the server says."`
	Bytes quotaValue `placeholder:"SIZE" help:"Bytes of DATA frames a second, as 10KiB; none: no limit; default: as --device-bytes of the server says."`
	JSON  bool       `name:"json" help:"As JSON."`
}

// Help says what happens to a limit that is not given.
func (deviceQuotaCommand) Help() string {
	return `  mooring device quota boiler-7                     shows it
  mooring device quota boiler-7 --rows 10           changes the rows; the bytes stay as they are

A change holds from the device's next connection on.`
}

// quotaValue is a number, or none, or the server's default.
type quotaValue struct {
	given bool
	value *int32 // as in devices.Quota
}

// UnmarshalText reads 100, 10KiB, none or default.
func (q *quotaValue) UnmarshalText(text []byte) error {
	q.given, q.value = true, nil
	zero := int32(0)
	switch string(text) {
	case "default":
		return nil
	case "none":
		q.value = &zero
		return nil
	}
	var size app.Size
	if err := size.UnmarshalText(text); err != nil || size < 1 || size > 1_000_000_000 {
		return fmt.Errorf("%s is neither a number from 1 to 1000000000 nor none nor default", strconv.Quote(string(text)))
	}
	number := int32(size)
	q.value = &number
	return nil
}

// quotaWord is a limit as the flags take it.
func quotaWord(value *int32) string {
	switch {
	case value == nil:
		return "default"
	case *value == 0:
		return "none"
	default:
		return strconv.Itoa(int(*value))
	}
}

// Run shows the quota, or changes what is given of it.
func (d *deviceQuotaCommand) Run(ctx context.Context, out *console) error {
	return withAdmin(ctx, d.Location, func(admin *devices.Admin) error {
		quota, err := admin.Quota(ctx, d.Name)
		if err != nil {
			return err
		}
		state, when := "quota", ""
		if d.Rows.given || d.Bytes.given {
			if d.Rows.given {
				quota.Rows = d.Rows.value
			}
			if d.Bytes.given {
				quota.Bytes = d.Bytes.value
			}
			if err := admin.SetQuota(ctx, d.Name, quota); err != nil {
				return err
			}
			state, when = "quota changed", " It holds from the device's next connection on."
		}
		rows, bytes := quotaWord(quota.Rows), quotaWord(quota.Bytes)
		if d.JSON {
			return out.printJSON(map[string]string{"name": d.Name, "state": state, "rows": rows, "bytes": bytes})
		}
		fmt.Fprintf(out.stdout, "The quota of %s, a second: rows %s, bytes %s.%s\n", d.Name, rows, bytes, when)
		if quota.Rows == nil || quota.Bytes == nil {
			fmt.Fprintln(out.stdout, "default: as --device-rows and --device-bytes of the server say.")
		}
		return nil
	})
}
