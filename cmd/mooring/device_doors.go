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

	Rows  quotaValue `default:"default" placeholder:"N" help:"Rows a second; none: no limit; default: as --device-rows of the server says."`
	Bytes quotaValue `default:"default" placeholder:"SIZE" help:"Bytes of DATA frames a second, as 10KiB; none: no limit; default: as --device-bytes of the server says."`
	JSON  bool       `name:"json" help:"As JSON."`
}

// quotaValue is a number, or none, or the server's default.
type quotaValue struct{ value *int32 }

// UnmarshalText reads 100, 10KiB, none or default.
func (q *quotaValue) UnmarshalText(text []byte) error {
	zero := int32(0)
	switch string(text) {
	case "default":
		q.value = nil
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

// Run changes the quota.
func (d *deviceQuotaCommand) Run(ctx context.Context, out *console) error {
	return withAdmin(ctx, d.Location, func(admin *devices.Admin) error {
		if err := admin.SetQuota(ctx, d.Name, devices.Quota{Rows: d.Rows.value, Bytes: d.Bytes.value}); err != nil {
			return err
		}
		return out.changed(d.JSON, d.Name, "quota changed", "The quota of %s holds from its next connection on.")
	})
}
