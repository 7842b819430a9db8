package devices

import (
	"context"
	"time"
)

// Authenticate says whose credential it is: a token, or the common name of a
// verified certificate when token is empty. name, if not empty, must be the
// device's. It answers ErrUnauthenticated, ErrDisabled, or an error that may
// pass: then Postgres could not be asked within Config.Wait. What is in memory
// is answered without waiting and without allocating.
func (r *Registry) Authenticate(ctx context.Context, token, name, certificate string) (Device, error) {
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
