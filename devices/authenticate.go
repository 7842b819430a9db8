package devices

import (
	"context"
	"time"
)

// Credential is what a device shows.
type Credential struct {
	Token       string
	Name        string // if not empty, the device must have this name
	Certificate string // device that a verified certificate names; counts without Token
	Serial      string // of the certificate, as NormalSerial writes it
	Expires     int64  // end of the certificate, in seconds since 1970; 0: none
	OnlyKnown   bool   // answer from memory alone, else with ErrNotKnown
	Remote      string // where it comes from, for the record of refusals
}

// authenticate is Authenticate without the record of refusals.
func (r *Registry) authenticate(ctx context.Context, shown Credential) (Device, error) {
	token, certificate := shown.Token, shown.Certificate
	var key credentialKey
	switch {
	case token != "":
		if len(token) > maxToken {
			return Device{}, ErrUnauthenticated
		}
		key = tokenKey(token)
	case certificate != "":
		if shown.Expires != 0 && time.Now().Unix() >= shown.Expires {
			return Device{}, ErrUnauthenticated
		}
		key = certificateKey(certificate, shown.Serial)
	default:
		return Device{}, ErrUnauthenticated
	}

	if known, ok := r.cache.get(key, time.Now()); ok {
		if known.err != nil {
			r.metrics.lookupRefusals.Inc()
		} else {
			r.metrics.lookupHits.Inc()
		}
		return named(known.device, known.err, &shown)
	}

	// Nothing that Postgres would choke on may get into a query: its batch
	// carries the questions of other devices too.
	if token != "" && !looksLikeToken(token) || token == "" && (CheckName(certificate) != nil || !isSerial(shown.Serial)) {
		r.metrics.lookupRefusals.Inc()
		return Device{}, ErrUnauthenticated
	}
	if shown.OnlyKnown {
		return Device{}, ErrNotKnown
	}
	r.metrics.lookupMisses.Inc()
	if token != "" {
		certificate = ""
	}
	found, err := r.lookups.ask(ctx, key, certificate, shown.Serial)
	if err != nil {
		return Device{}, err
	}
	return named(found.device, found.err, &shown)
}

// named refuses a credential that was sent under another device's name, and
// notes the certificate.
func named(device Device, err error, shown *Credential) (Device, error) {
	switch {
	case shown.Name != "" && shown.Name != device.Name:
		return Device{}, ErrUnauthenticated
	case err != nil:
		return Device{}, err
	}
	if shown.Token == "" {
		device.Serial, device.Expires = shown.Serial, shown.Expires
	}
	return device, nil
}
