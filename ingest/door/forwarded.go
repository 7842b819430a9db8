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
	address, _ := d.follow(r)
	return address
}

// follow is From, and tells how many elements of the header, from the right,
// trusted proxies wrote.
func (d *Door) follow(r *http.Request) (address netip.Addr, theirs int) {
	address = AddressOf(r.RemoteAddr)
	if d.cfg.ForwardedHeader == NoHeader {
		return address, 0
	}
	said := d.cfg.ForwardedHeader.hops(r.Header)
	for i := len(said) - 1; i >= 0 && address.IsValid() && Within(address, d.cfg.TrustedProxies); i-- {
		theirs++
		if !said[i].IsValid() { // unknown, hidden, or nonsense: the proxy is all we know
			break
		}
		address = said[i]
	}
	return address, theirs
}

// ViaProxy tells whether From takes somebody's word for this request.
func (d *Door) ViaProxy(r *http.Request) bool {
	return d.cfg.ForwardedHeader != NoHeader && Within(AddressOf(r.RemoteAddr), d.cfg.TrustedProxies) &&
		len(r.Header.Values(string(d.cfg.ForwardedHeader))) > 0
}

// Encrypted tells whether a trusted proxy says that the client came to it by
// HTTPS: Forwarded by its parameter proto, a proxy that sets X-Forwarded-For by
// X-Forwarded-Proto. Of several the one counts whom the client spoke to.
func (d *Door) Encrypted(r *http.Request) bool {
	if d.cfg.ForwardedHeader == NoHeader || !Within(AddressOf(r.RemoteAddr), d.cfg.TrustedProxies) {
		return false
	}
	var said []string
	if d.cfg.ForwardedHeader == Forwarded {
		for _, element := range elements(r.Header, string(Forwarded)) {
			said = append(said, parameter(element, "proto"))
		}
	} else {
		said = elements(r.Header, "X-Forwarded-Proto")
	}
	if len(said) == 0 {
		return false
	}
	_, theirs := d.follow(r)
	// A proxy may set X-Forwarded-Proto where it adds to X-Forwarded-For, and then
	// there are fewer of the one.
	return strings.EqualFold(said[max(len(said)-max(theirs, 1), 0)], "https")
}

// hops lists the addresses in the header, from the client to the last proxy.
func (h Header) hops(header http.Header) []netip.Addr {
	var hops []netip.Addr
	for _, text := range elements(header, string(h)) {
		if h == Forwarded {
			text = parameter(text, "for")
		}
		hops = append(hops, nodeAddress(text))
	}
	return hops
}

// elements are what a header lists, with commas between, on however many lines.
func elements(header http.Header, name string) []string {
	var list []string
	for _, line := range header.Values(name) {
		for element := range strings.SplitSeq(line, ",") {
			list = append(list, strings.TrimSpace(element))
		}
	}
	return list
}

// parameter takes a parameter out of an element of Forwarded (RFC 7239 section 4).
// A quoted string with a comma or semicolon within is no address, and falls apart
// into elements that are none.
func parameter(element, name string) string {
	found := ""
	for pair := range strings.SplitSeq(element, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if strings.EqualFold(key, name) {
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
