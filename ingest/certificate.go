package ingest

import (
	"crypto/x509"
	"net/http"
	"net/url"
	"strings"
)

// deviceScheme and deviceClass begin the URI that names a device in a
// certificate: mooring:device:boiler-7 (PROTOCOL §2.3).
const (
	deviceScheme = "mooring"
	deviceClass  = "device:"
)

// certified is what a verified certificate says of who shows it. A certificate
// that names no device is no credential, but may be required all the same. ok is
// false if none was shown that the listener verified.
func certified(r *http.Request) (credential Credential, ok bool, bad *refusal) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return Credential{}, false, nil
	}
	leaf := r.TLS.VerifiedChains[0][0]
	name, bad := deviceIn(leaf)
	if bad != nil || name == "" {
		return Credential{}, true, bad
	}
	return Credential{Certificate: name, Serial: leaf.SerialNumber.Text(16), Expires: leaf.NotAfter.Unix()}, true, nil
}

// deviceIn is the device that a certificate names: by its URI, or else by its
// common name. The names of hosts name no device: an authority that also signs
// web servers' certificates would make devices of them.
func deviceIn(leaf *x509.Certificate) (string, *refusal) {
	found := ""
	for _, uri := range leaf.URIs {
		name, ok := strings.CutPrefix(uri.Opaque, deviceClass)
		if uri.Scheme != deviceScheme || !ok {
			continue
		}
		name, err := url.PathUnescape(name)
		if err != nil || name == "" || found != "" {
			return "", refuse(http.StatusUnauthorized, "bad_credential", "the certificate must name one device")
		}
		found = name
	}
	if found == "" {
		found = leaf.Subject.CommonName
	}
	return found, nil
}
