package ingest

import (
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"mooring/wire"
)

// maxToken is the length of a token, in bytes (PROTOCOL §10).
const maxToken = 256

// refusal is an honest answer to a handshake that can't go on.
type refusal struct {
	status int
	label  string        // the metric's label "reason"; one of a fixed set
	text   string        // for the author of the client; never holds what was sent
	after  time.Duration // with 429 and 503: how long to stay away at least
}

func refuse(status int, label, text string) *refusal {
	return &refusal{status: status, label: label, text: text}
}

// later says how long to stay away at least.
func (r *refusal) later(after time.Duration) *refusal {
	r.after = after
	return r
}

// offered reads the subprotocols that the client offers, and the tokens among
// them.
func offered(header http.Header) (speaks, others bool, tokens []string) {
	for _, line := range header.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.TrimSpace(name)
			switch token, isToken := strings.CutPrefix(name, wire.TokenSubprotocolPrefix); {
			case isToken:
				tokens = append(tokens, token)
			case name == wire.Subprotocol:
				speaks = true
			case name != "":
				others = true
			}
		}
	}
	return speaks, others, tokens
}

// credential finds the one credential that the handshake brings (PROTOCOL §2.3).
// It is never looked for in the URL, which ends up in logs.
func credential(r *http.Request, tokens []string, requireCertificate bool) (Credential, *refusal) {
	var found []Credential
	for _, token := range tokens {
		found = append(found, Credential{Token: token})
	}
	for _, line := range r.Header.Values("Authorization") {
		c, bad := authorization(line)
		if bad != nil {
			return Credential{}, bad
		}
		found = append(found, c)
	}
	// Only certificates that the listener verified count.
	byCertificate, shown, bad := certified(r)
	switch {
	case bad != nil:
		return Credential{}, bad
	case !shown && requireCertificate:
		return Credential{}, refuse(http.StatusUnauthorized, "no_certificate", "show a TLS client certificate")
	case byCertificate.Certificate != "":
		found = append(found, byCertificate)
	}
	switch {
	case len(found) == 0:
		return Credential{}, refuse(http.StatusUnauthorized, "no_credential",
			"send a credential: Authorization: Bearer TOKEN, or Basic with device name and token, "+
				"or a client certificate, or the subprotocol "+wire.TokenSubprotocolPrefix+"TOKEN")
	case len(found) > 1:
		return Credential{}, refuse(http.StatusBadRequest, "two_credentials", "send one credential, not several")
	case found[0].Certificate == "" && found[0].Token == "":
		return Credential{}, refuse(http.StatusUnauthorized, "no_credential", "the token is empty")
	case len(found[0].Token) > maxToken || len(found[0].Name) > maxToken:
		return Credential{}, refuse(http.StatusUnauthorized, "bad_credential", "the token is longer than 256 bytes")
	}
	return found[0], nil
}

// authorization reads one Authorization header.
func authorization(line string) (Credential, *refusal) {
	scheme, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	switch strings.ToLower(scheme) {
	case "bearer":
		return Credential{Token: rest}, nil
	case "basic":
		if len(rest) > base64.StdEncoding.EncodedLen(2*maxToken+1) {
			return Credential{}, refuse(http.StatusUnauthorized, "bad_credential", "the token is longer than 256 bytes")
		}
		plain, err := base64.StdEncoding.DecodeString(rest)
		name, token, ok := strings.Cut(string(plain), ":")
		if err != nil || !ok || name == "" {
			return Credential{}, refuse(http.StatusBadRequest, "bad_credential",
				"Basic authentication needs base64 of name:token")
		}
		return Credential{Name: name, Token: token}, nil
	default:
		return Credential{}, refuse(http.StatusUnauthorized, "bad_credential",
			"the Authorization header must be Bearer or Basic")
	}
}
