package door

import (
	"net"
	"net/netip"
)

// Loopback are this machine's own addresses.
var Loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// AddressOf reads an address as net.Addr.String and http.Request.RemoteAddr write
// it, with a port or without; what is none gives the zero Addr.
func AddressOf(text string) netip.Addr {
	if withPort, err := netip.ParseAddrPort(text); err == nil {
		return withPort.Addr().Unmap().WithZone("")
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return address.Unmap().WithZone("")
}

// addressOf reads an address without writing it down first, if it can.
func addressOf(address net.Addr) netip.Addr {
	if tcp, ok := address.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return AddressOf(address.String())
}

// group is what counts as one address: of IPv6 the /64.
func group(address netip.Addr) netip.Addr {
	if address.Is6() {
		if prefix, err := address.Prefix(64); err == nil {
			return prefix.Addr()
		}
	}
	return address
}

// Within tells whether one of the prefixes holds the address.
func Within(address netip.Addr, prefixes []netip.Prefix) bool {
	for _, prefix := range prefixes {
		if prefix.Contains(address) {
			return true
		}
	}
	return false
}
