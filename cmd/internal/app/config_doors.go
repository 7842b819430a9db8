package app

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"mooring/ingest"
	"mooring/ingest/door"
)

// defaultAdmin is where the operator's pages are unless somebody chose.
const defaultAdmin = "127.0.0.1:8081"

// proxyV2 is the version of the PROXY protocol that is spoken.
const proxyV2 = "v2"

// Doors are the settings of who may come in, how often, and from where.
type Doors struct {
	// AdminListen is the address of the pages for the operator. Defaults to
	// 127.0.0.1:8081.
	AdminListen string `env:"MOORING_ADMIN_LISTEN" default:"127.0.0.1:8081" group:"Network" help:"TCP address for the operator alone: metrics, profiles, why the server is not ready. none: nowhere."`
	// TLSMinVersion is the least version of TLS. Defaults to 1.2.
	TLSMinVersion string `name:"tls-min-version" env:"MOORING_TLS_MIN_VERSION" enum:"1.2,1.3" default:"1.2" group:"Network" help:"Least version of TLS: 1.2 or 1.3."`
	// TLSClientAuth says whether devices must show a certificate. Defaults to
	// optional.
	TLSClientAuth string `name:"tls-client-auth" env:"MOORING_TLS_CLIENT_AUTH" enum:"optional,required" default:"optional" group:"Network" help:"With --tls-client-ca: optional, then a device may also bring a token; or required, then it must show a certificate."`

	// HandshakeRate is the number of handshakes a second. Defaults to 5,000.
	HandshakeRate Limit `env:"MOORING_HANDSHAKE_RATE" default:"5000" group:"Doors" help:"Handshakes a second, 10 seconds' worth at once; further ones get HTTP 503. none: no limit."`
	// AddressHandshakeRate is the same for one address. Defaults to 500.
	AddressHandshakeRate Limit `env:"MOORING_ADDRESS_HANDSHAKE_RATE" default:"500" group:"Doors" help:"Handshakes a second from one address (IPv6: a /64), 10 seconds' worth at once; further ones get HTTP 429. none: no limit."`
	// AddressFailureRate is the number of wrong credentials a second that one
	// address may try. Defaults to 10.
	AddressFailureRate Limit `env:"MOORING_ADDRESS_FAILURE_RATE" default:"10" group:"Doors" help:"Wrong credentials a second from one address, 10 seconds' worth at once; then it gets HTTP 429 for all but credentials known in memory to be good. none: no limit."`
	// AddressConnections is the number of connections that one address may hold.
	// Defaults to no limit.
	AddressConnections Limit `env:"MOORING_ADDRESS_CONNECTIONS" default:"none" group:"Doors" help:"Connections that one address may hold; further ones get HTTP 429."`
	// MaxUnfinished is the number of connections that have not brought their
	// first frame. Defaults to 10,000.
	MaxUnfinished Limit `env:"MOORING_MAX_UNFINISHED" default:"10000" group:"Doors" help:"Connections that have not brought their first frame; past it, the oldest of them is closed. Never more than a sixteenth of the files that may be open."`
	// AddressUnfinished is the same for one address. Defaults to 2,000.
	AddressUnfinished Limit `env:"MOORING_ADDRESS_UNFINISHED" default:"2000" group:"Doors" help:"The same for one address. none: no limit."`
	// UnlimitedAddresses are those that the limits of one address do not hold
	// for. Defaults to this machine's own.
	UnlimitedAddresses Prefixes `env:"MOORING_UNLIMITED_ADDRESSES" default:"127.0.0.0/8,::1/128" group:"Doors" help:"Addresses that the limits of one address do not hold for, as 192.0.2.1 or 10.0.0.0/8, with commas between; none: they hold for all."`
	// HandshakeTimeout bounds the TLS handshake, the request's header, and the
	// time until the first frame, each. Defaults to 10 s.
	HandshakeTimeout Span `env:"MOORING_HANDSHAKE_TIMEOUT" default:"10s" group:"Doors" help:"How long each may take: the TLS handshake, the request's header, the check of the credential, and the time until the first frame."`
	// MaxHeader is the size of a request's header. Defaults to 8 KiB.
	MaxHeader Size `env:"MOORING_MAX_HEADER" default:"8KiB" group:"Doors" help:"Largest header of a request; larger ones get HTTP 431."`

	// DeviceRows is the number of rows that a device may send a second. Defaults
	// to no limit.
	DeviceRows Limit `env:"MOORING_DEVICE_ROWS" default:"none" group:"Doors" help:"Rows a second that a device may send, 10 seconds' worth at once, unless mooring device quota says otherwise."`
	// DeviceBytes is the number of bytes of DATA frames that a device may send a
	// second. Defaults to no limit.
	DeviceBytes Limit `env:"MOORING_DEVICE_BYTES" default:"none" group:"Doors" help:"Bytes of DATA frames a second that a device may send, 10 seconds' worth at once, unless mooring device quota says otherwise."`

	// AllowedOrigins are the web pages that may connect. Defaults to those of the
	// same host.
	AllowedOrigins Words `env:"MOORING_ALLOWED_ORIGINS" placeholder:"ORIGINS" group:"Doors" help:"Web pages that may connect, as https://panel.example.org, with commas between (default: those of the same host). Devices send no origin."`
	// TrustedProxies are the addresses whose word is taken for where a connection
	// came from. Defaults to none.
	TrustedProxies Prefixes `env:"MOORING_TRUSTED_PROXIES" placeholder:"ADDRESSES" group:"Doors" help:"Proxies whose word is taken for a device's address, as 10.0.0.5 or 10.0.0.0/24, with commas between."`
	// ProxyProtocol says whether trusted proxies speak the PROXY protocol.
	// Defaults to off.
	ProxyProtocol string `env:"MOORING_PROXY_PROTOCOL" enum:"off,v2" default:"off" group:"Doors" help:"v2: trusted proxies must begin every connection with a PROXY protocol header of version 2, and others must not."`
	// ForwardedHeader is the header in which trusted proxies say so. Defaults to
	// none.
	ForwardedHeader string `env:"MOORING_FORWARDED_HEADER" enum:"none,X-Forwarded-For,Forwarded" default:"none" group:"Doors" help:"Header in which trusted proxies name the device's address: X-Forwarded-For, Forwarded or none. Others' are ignored."`
}

// Limit is a number, or none.
type Limit int

// NoLimit is written none.
const NoLimit Limit = -1

// UnmarshalText reads a positive number, or none.
func (l *Limit) UnmarshalText(text []byte) error {
	if string(text) == "none" {
		*l = NoLimit
		return nil
	}
	number, err := strconv.Atoi(string(text))
	if err != nil || number < 1 || number > 1_000_000_000 {
		return fmt.Errorf("%q is neither none nor a number from 1 to 1000000000", text)
	}
	*l = Limit(number)
	return nil
}

func (l Limit) String() string {
	if l < 0 {
		return "none"
	}
	return strconv.Itoa(int(l))
}

// Prefixes are networks and single addresses. An empty list is not nil.
type Prefixes []netip.Prefix

// UnmarshalText reads a list with commas between, or none.
func (p *Prefixes) UnmarshalText(text []byte) error {
	*p = Prefixes{}
	for _, word := range split(string(text)) {
		if address, err := netip.ParseAddr(word); err == nil && address.Zone() == "" {
			*p = append(*p, netip.PrefixFrom(address.Unmap(), address.Unmap().BitLen()))
			continue
		}
		prefix, err := netip.ParsePrefix(word)
		if err != nil || prefix.Addr().Is4In6() {
			return fmt.Errorf("%q is no address like 192.0.2.1 and no network like 10.0.0.0/8", word)
		}
		*p = append(*p, prefix.Masked())
	}
	return nil
}

// Words are a list with commas between. An empty list is not nil.
type Words []string

// UnmarshalText reads a list with commas between, or none.
func (w *Words) UnmarshalText(text []byte) error {
	*w = append(Words{}, split(string(text))...)
	return nil
}

func split(text string) []string {
	var words []string
	if text == "none" {
		return nil
	}
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word != "" {
			words = append(words, word)
		}
	}
	return words
}

// validateDoors names every flag whose value can't be.
func (d *Doors) validateDoors() error {
	var faults []error
	need := func(ok bool, flag, want string, is any) {
		if !ok {
			faults = append(faults, fmt.Errorf("--%s must be %s, not %v", flag, want, is))
		}
	}
	_, err := ingest.AllowOrigins(d.AllowedOrigins)
	need(err == nil, "allowed-origins", "origins like https://panel.example.org", d.AllowedOrigins)
	need(d.HandshakeTimeout >= Span(100*time.Millisecond) && d.HandshakeTimeout <= Span(5*time.Minute),
		"handshake-timeout", "100ms to 5m", d.HandshakeTimeout)
	need(d.MaxHeader >= 1<<10 && d.MaxHeader <= 1<<20, "max-header", "1KiB to 1MiB", d.MaxHeader)
	header := d.ForwardedHeader
	need(header == "none" || header == string(door.XForwardedFor) || header == string(door.Forwarded),
		"forwarded-header", "X-Forwarded-For, Forwarded or none", header)
	need(d.ProxyProtocol == "off" || d.ProxyProtocol == proxyV2, "proxy-protocol", "off or v2", d.ProxyProtocol)
	need(d.ProxyProtocol == "off" || len(d.TrustedProxies) > 0, "proxy-protocol", "given together with --trusted-proxies", "alone")
	need(d.TLSMinVersion == "1.2" || d.TLSMinVersion == "1.3", "tls-min-version", "1.2 or 1.3", d.TLSMinVersion)
	need(d.TLSClientAuth == "optional" || d.TLSClientAuth == "required", "tls-client-auth", "optional or required", d.TLSClientAuth)
	_, _, err = net.SplitHostPort(d.AdminListen)
	need(err == nil || d.AdminListen == noAdmin, "admin-listen", "an address like 127.0.0.1:8081, or none", d.AdminListen)
	need(header == "none" || len(d.TrustedProxies) > 0, "forwarded-header", "given together with --trusted-proxies", "alone")
	return errors.Join(faults...)
}

// limitHandshakes fills in what the gateway has to know.
func (d *Doors) limitHandshakes(cfg *ingest.Config) error {
	cfg.Door = door.Config{
		Rate:               int(d.HandshakeRate),
		AddressRate:        int(d.AddressHandshakeRate),
		AddressFailures:    int(d.AddressFailureRate),
		AddressConnections: int(d.AddressConnections),
		Unfinished:         unfinishedLimit(d.MaxUnfinished, fileLimit()),
		AddressUnfinished:  int(d.AddressUnfinished),
		Unlimited:          d.UnlimitedAddresses,
		TrustedProxies:     d.TrustedProxies,
	}
	if d.ForwardedHeader != "none" {
		cfg.Door.ForwardedHeader = door.Header(d.ForwardedHeader)
	}
	cfg.RowRate, cfg.ByteRate = max(int(d.DeviceRows), 0), max(int(d.DeviceBytes), 0)
	cfg.RequireCertificate = d.TLSClientAuth == "required"
	cfg.HandshakeTimeout = time.Duration(d.HandshakeTimeout)
	cfg.FirstFrame = time.Duration(d.HandshakeTimeout)
	if d.AllowedOrigins != nil {
		check, err := ingest.AllowOrigins(d.AllowedOrigins)
		if err != nil {
			return fmt.Errorf("--allowed-origins: %w", err)
		}
		cfg.CheckOrigin = check
	}
	return nil
}
