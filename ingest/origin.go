package ingest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// sameOrigin lets pages of the same host connect.
func sameOrigin(r *http.Request) bool {
	origin, err := url.Parse(originOf(r))
	return err == nil && origin.Host != "" && strings.EqualFold(origin.Host, r.Host)
}

// AllowOrigins makes a Config.CheckOrigin that lets pages of these origins
// connect and no others, also not those of the server's own host. An origin is a
// scheme, a host and, unless it is the scheme's own, a port (RFC 6454 section 7):
// https://panel.example.org.
func AllowOrigins(origins []string) (func(*http.Request) bool, error) {
	allowed := make([]string, len(origins))
	for i, text := range origins {
		origin, err := url.Parse(text)
		if err != nil || origin.Scheme == "" || origin.Host == "" || text != origin.Scheme+"://"+origin.Host {
			return nil, fmt.Errorf("%q is no origin like https://panel.example.org", text)
		}
		allowed[i] = strings.ToLower(text)
	}
	return func(r *http.Request) bool { return slices.Contains(allowed, strings.ToLower(originOf(r))) }, nil
}

// originOf is the request's origin; of several headers none counts, for nobody
// knows which one a proxy looked at.
func originOf(r *http.Request) string {
	if values := r.Header.Values("Origin"); len(values) == 1 {
		return values[0]
	}
	return ""
}
