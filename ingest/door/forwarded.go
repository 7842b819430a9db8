package door

import (
	"net/http"
	"net/netip"
	"strings"
)

// Header is the header in which proxies say for whom they speak. It is one and
// not whichever is there: a proxy that sets the one passes the other on as the
// client sent it.
type Header string

// The headers.
const (
	NoHeader      Header = ""
	XForwardedFor Header = "X-Forwarded-For"
	Forwarded     Header = "Forwarded" // RFC 7239
)

// From is the address that a request is from: the peer's, unless that is a
// trusted proxy which says for whom it speaks. Every proxy adds to the right, so
// the list is read from the right, as far as trusted proxies wrote it; what
// stands further left anybody may have made up.
func (d *Door) From(r *http.Request) netip.Addr {
	address := AddressOf(r.RemoteAddr)
	if d.cfg.ForwardedHeader == NoHeader {
		return address
	}
	said := d.cfg.ForwardedHeader.hops(r.Header)
	for i := len(said) - 1; i >= 0 && address.IsValid() && Within(address, d.cfg.TrustedProxies); i-- {
		if !said[i].IsValid() { // unknown, hidden, or nonsense: the proxy is all we know
			break
		}
		address = said[i]
	}
	return address
}

// ViaProxy tells whether From takes somebody's word for this request.
func (d *Door) ViaProxy(r *http.Request) bool {
	return d.cfg.ForwardedHeader != NoHeader && Within(AddressOf(r.RemoteAddr), d.cfg.TrustedProxies) &&
		len(r.Header.Values(string(d.cfg.ForwardedHeader))) > 0
}

// hops lists the addresses in the header, from the client to the last proxy.
func (h Header) hops(header http.Header) []netip.Addr {
	var hops []netip.Addr
	for _, line := range header.Values(string(h)) {
		for element := range strings.SplitSeq(line, ",") {
			text := strings.TrimSpace(element)
			if h == Forwarded {
				text = forwardedFor(element)
			}
			hops = append(hops, nodeAddress(text))
		}
	}
	return hops
}

// forwardedFor takes the for parameter out of an element of Forwarded (RFC 7239
// section 4). A quoted string with a comma or semicolon within is no address, and
// falls apart into elements that are none.
func forwardedFor(element string) string {
	found := ""
	for pair := range strings.SplitSeq(element, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if strings.EqualFold(name, "for") {
			if found != "" {
				return "" // twice
			}
			found = strings.Trim(value, `"`)
		}
	}
	return found
}

// nodeAddress reads an address with or without a port, and IPv6 in brackets
// (RFC 7239 section 6); others give the zero Addr.
func nodeAddress(text string) netip.Addr {
	if inner, ok := strings.CutPrefix(text, "["); ok {
		if address, rest, ok := strings.Cut(inner, "]"); ok && rest == "" {
			return AddressOf(address)
		}
	}
	return AddressOf(text)
}
