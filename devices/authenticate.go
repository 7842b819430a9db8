package devices

import (
	"context"
	"time"
)

// Credential is what a device shows.
type Credential struct {
	Token       string
	Name        string // if not empty, the device must have this name
	Certificate string // common name of a verified certificate; counts without Token
	OnlyKnown   bool   // answer from memory alone, else with ErrNotKnown
	Remote      string // where it comes from, for the record of refusals
}

// authenticate is Authenticate without the record of refusals.
func (r *Registry) authenticate(ctx context.Context, shown Credential) (Device, error) {
	token, name, certificate := shown.Token, shown.Name, shown.Certificate
	var key credentialKey
	switch {
	case token != "":
		if len(token) > maxToken {
			return Device{}, ErrUnauthenticated
		}
		key = tokenKey(token)
	case certificate != "":
		key = certificateKey(certificate)
	default:
		return Device{}, ErrUnauthenticated
	}

	if known, ok := r.cache.get(key, time.Now()); ok {
		if known.err != nil {
			r.metrics.lookupRefusals.Inc()
		} else {
			r.metrics.lookupHits.Inc()
		}
		return named(known.device, known.err, name)
	}

	// Nothing that Postgres would choke on may get into a query: its batch
	// carries the questions of other devices too.
	if token != "" && !looksLikeToken(token) || token == "" && CheckName(certificate) != nil {
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
	found, err := r.lookups.ask(ctx, key, certificate)
	if err != nil {
		return Device{}, err
	}
	return named(found.device, found.err, name)
}

// named refuses a credential that was sent under another device's name.
func named(device Device, err error, name string) (Device, error) {
	switch {
	case name != "" && name != device.Name:
		return Device{}, ErrUnauthenticated
	case err != nil:
		return Device{}, err
	}
	return device, nil
}
