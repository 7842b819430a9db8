package devices

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// maxSerial is the length of a certificate's serial number in hexadecimal: 20
// bytes (RFC 5280 section 4.1.2.2).
const maxSerial = 40

// isSerial says whether text is a serial number as NormalSerial writes it.
func isSerial(text string) bool {
	normal, err := NormalSerial(text)
	return err == nil && normal == text
}

// NormalSerial reads a certificate's serial number in hexadecimal as tools show
// it, 0A:1B:2C or 0x0a1b2c or serial=0A1B2C, and writes it as the registry keeps
// it: small letters, no leading zeros. The error is a *FieldError.
func NormalSerial(text string) (string, error) {
	serial := strings.ToLower(strings.TrimSpace(text))
	serial = strings.TrimPrefix(strings.TrimPrefix(serial, "serial="), "0x")
	serial = strings.ReplaceAll(serial, ":", "")
	if serial == "" || strings.Trim(serial, "0123456789abcdef") != "" {
		return "", &FieldError{"serial", "must be hexadecimal, as openssl x509 -noout -serial prints it"}
	}
	if serial = strings.TrimLeft(serial, "0"); serial == "" {
		serial = "0"
	}
	if len(serial) > maxSerial {
		return "", &FieldError{"serial", fmt.Sprintf("has %d digits; at most %d are allowed", len(serial), maxSerial)}
	}
	return serial, nil
}

// RevokeCertificate makes a certificate that names the device a credential no
// longer, and ends the sessions that showed it. It may be called again. The
// errors are ErrNotFound, a *FieldError, or the database's.
func (a *Admin) RevokeCertificate(ctx context.Context, name, serial string) error {
	return a.changeCertificate(ctx, "revoke a certificate of", name, serial, `
INSERT INTO mooring.revoked_certificates (name, serial) VALUES ($1, $2) ON CONFLICT (name, serial) DO NOTHING`)
}

// ReinstateCertificate takes a revocation back. Errors as of RevokeCertificate.
func (a *Admin) ReinstateCertificate(ctx context.Context, name, serial string) error {
	return a.changeCertificate(ctx, "reinstate a certificate of", name, serial,
		`DELETE FROM mooring.revoked_certificates WHERE name = $1 AND serial = $2`)
}

func (a *Admin) changeCertificate(ctx context.Context, what, name, serial, statement string) error {
	normal, err := NormalSerial(serial)
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error {
		var id int32
		if err := tx.QueryRow(ctx, `SELECT id FROM mooring.devices WHERE name = $1`, name).Scan(&id); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, statement, name, normal)
		return err
	})
	if err != nil {
		return explain(what, name, err)
	}
	return nil
}

// Quota is what a device may send a second; nil: as the server says for all,
// 0: no limit.
type Quota struct{ Rows, Bytes *int32 }

// Quota is the quota of a device.
func (a *Admin) Quota(ctx context.Context, name string) (quota Quota, err error) {
	err = a.pool.QueryRow(ctx, `SELECT rows_per_second, bytes_per_second FROM mooring.devices WHERE name = $1`, name).
		Scan(&quota.Rows, &quota.Bytes)
	if err != nil {
		return Quota{}, explain("look up the quota of", name, err)
	}
	return quota, nil
}

// SetQuota changes what a device may send, from its next connection on. A field
// below 0 is refused with a *FieldError.
func (a *Admin) SetQuota(ctx context.Context, name string, quota Quota) error {
	for field, value := range map[string]*int32{"rows": quota.Rows, "bytes": quota.Bytes} {
		if value != nil && *value < 0 {
			return &FieldError{field, "is negative"}
		}
	}
	tag, err := a.pool.Exec(ctx, `UPDATE mooring.devices SET rows_per_second = $2, bytes_per_second = $3 WHERE name = $1`,
		name, quota.Rows, quota.Bytes)
	if err == nil && tag.RowsAffected() == 0 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return explain("change the quota of", name, err)
	}
	return nil
}
