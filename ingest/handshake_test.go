package ingest

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

func TestHandshakeAnswersHonestly(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]func(testing.TB, Config, *fakeStore) *server{"at once": serve, "through net/http": serveThrough} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answersHonestly(t, serve(t, quick(), newFakeStore()))
		})
	}
}

func answersHonestly(t *testing.T, sv *server) {
	t.Helper()
	sv.registry.disabled["token-9"] = true
	basic := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	bearer := http.Header{"Authorization": {"Bearer token-1"}}
	with := func(more http.Header) http.Header {
		all := bearer.Clone()
		maps.Copy(all, more)
		return all
	}
	for name, c := range map[string]struct {
		method  string
		query   string
		headers http.Header
		want    int
		says    string
		header  [2]string
	}{
		"bearer":                         {headers: bearer, want: 101},
		"bearer, any case":               {headers: http.Header{"Authorization": {"bEARER token-1"}}, want: 101},
		"basic":                          {headers: http.Header{"Authorization": {basic("device-1:token-1")}}, want: 101},
		"token subprotocol":              {headers: http.Header{"Sec-Websocket-Protocol": {"mooring.token.token-1, mooring.v1"}}, want: 101, header: [2]string{"Sec-Websocket-Protocol", "mooring.v1"}},
		"token subprotocol, two lines":   {headers: http.Header{"Sec-Websocket-Protocol": {"mooring.token.token-1", "mooring.v1"}}, want: 101, header: [2]string{"Sec-Websocket-Protocol", "mooring.v1"}},
		"ours among others":              {headers: with(http.Header{"Sec-Websocket-Protocol": {"mqtt, mooring.v1"}}), want: 101, header: [2]string{"Sec-Websocket-Protocol", "mooring.v1"}},
		"no subprotocol":                 {headers: bearer, want: 101, header: [2]string{"Sec-Websocket-Protocol", ""}},
		"deflate is not taken":           {headers: with(http.Header{"Sec-Websocket-Extensions": {"permessage-deflate"}}), want: 101, header: [2]string{"Sec-Websocket-Extensions", ""}},
		"connection header on two lines": {headers: with(http.Header{"Connection": {"keep-alive", "Upgrade"}}), want: 101},
		"same origin":                    {headers: with(http.Header{"Origin": {"https://gateway.test"}}), want: 101},

		"only others":           {headers: with(http.Header{"Sec-Websocket-Protocol": {"mqtt"}}), want: 400, says: "mooring.v1"},
		"only the token":        {headers: http.Header{"Sec-Websocket-Protocol": {"mooring.token.token-1"}}, want: 400, says: "mooring.v1"},
		"foreign origin":        {headers: with(http.Header{"Origin": {"https://evil.test"}}), want: 403, says: "origin"},
		"no credential":         {want: 401, says: "Bearer", header: [2]string{"Www-Authenticate", `Bearer realm="mooring"`}},
		"credential in the URL": {query: "?token=token-1&access_token=token-1", want: 401},
		"unknown token":         {headers: http.Header{"Authorization": {"Bearer nobody"}}, want: 401, says: "not valid"},
		"empty token":           {headers: http.Header{"Authorization": {"Bearer "}}, want: 401},
		"basic, other's name":   {headers: http.Header{"Authorization": {basic("device-2:token-1")}}, want: 401},
		"basic, no colon":       {headers: http.Header{"Authorization": {basic("device-1")}}, want: 400, says: "name:token"},
		"basic, not base64":     {headers: http.Header{"Authorization": {"Basic %%%"}}, want: 400},
		"other scheme":          {headers: http.Header{"Authorization": {"Digest x"}}, want: 401, says: "Bearer"},
		"long token":            {headers: http.Header{"Authorization": {"Bearer " + strings.Repeat("x", 257)}}, want: 401, says: "256"},
		"two credentials":       {headers: with(http.Header{"Sec-Websocket-Protocol": {"mooring.v1, mooring.token.token-1"}}), want: 400, says: "one credential"},
		"two authorizations":    {headers: http.Header{"Authorization": {"Bearer token-1", "Bearer token-2"}}, want: 400, says: "one credential"},
		"disabled":              {headers: http.Header{"Authorization": {"Bearer token-9"}}, want: 403, says: "disabled"},
		"POST":                  {method: "POST", headers: bearer, want: 405, header: [2]string{"Allow", "GET"}},
		"no upgrade":            {headers: with(http.Header{"Upgrade": nil, "Connection": nil}), want: 426, header: [2]string{"Upgrade", "websocket"}},
		"other upgrade":         {headers: with(http.Header{"Upgrade": {"h2c"}}), want: 426},
		"version 8":             {headers: with(http.Header{"Sec-Websocket-Version": {"8"}}), want: 426, header: [2]string{"Sec-Websocket-Version", "13"}},
		"no key":                {headers: with(http.Header{"Sec-Websocket-Key": nil}), want: 400, says: "Sec-WebSocket-Key"},
		"short key":             {headers: with(http.Header{"Sec-Websocket-Key": {"YQ=="}}), want: 400},
		"other origin":          {headers: with(http.Header{"Origin": {"https://gateway.test.example"}}), want: 403, says: "origin"},
		"origin null":           {headers: with(http.Header{"Origin": {"null"}}), want: 403, says: "origin"},
		"two origins":           {headers: with(http.Header{"Origin": {"https://gateway.test", "https://gateway.test"}}), want: 403, says: "origin"},
		"empty origin":          {headers: with(http.Header{"Origin": {""}}), want: 403, says: "origin"},
		"body":                  {headers: with(http.Header{"Content-Length": {"5"}}), want: 400, says: "body"},
		"chunked body":          {headers: with(http.Header{"Transfer-Encoding": {"chunked"}}), want: 400, says: "body"},
		"other path":            {query: "/other", headers: bearer, want: 404},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			method := c.method
			if method == "" {
				method = "GET"
			}
			_, _, response := sv.handshake(t, method, wire.StreamPath+c.query, c.headers)
			require.Equal(t, c.want, response.StatusCode)
			if c.header[0] != "" {
				require.Equal(t, c.header[1], response.Header.Get(c.header[0]))
			}
			if c.want != 101 {
				require.Contains(t, response.body, c.says)
				require.NotContains(t, response.body, "token-1")
				require.Less(t, len(response.body), 300)
			}
		})
	}
}

func TestHandshakeTakesAVerifiedCertificateOnly(t *testing.T) {
	t.Parallel()
	certificate := &x509.Certificate{SerialNumber: big.NewInt(0xABC), NotAfter: time.Unix(1000, 0), Subject: pkix.Name{CommonName: "device-7"}}
	r := httptest.NewRequest(http.MethodGet, wire.StreamPath, nil)
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{certificate}}
	_, bad := credential(r, nil, false)
	require.Equal(t, http.StatusUnauthorized, bad.status, "presented, not verified")
	r.TLS.VerifiedChains = [][]*x509.Certificate{{certificate}}
	found, bad := credential(r, nil, false)
	require.Nil(t, bad)
	require.Equal(t, Credential{Certificate: "device-7", Serial: "abc", Expires: 1000}, found)
	r.Header.Set("Authorization", "Bearer x")
	_, bad = credential(r, nil, false)
	require.Equal(t, http.StatusBadRequest, bad.status, "one credential, not two")
}

// The URI names the device if there is one; the names of hosts never do.
func TestNameInACertificate(t *testing.T) {
	t.Parallel()
	uris := func(texts ...string) (list []*url.URL) {
		for _, text := range texts {
			uri, err := url.Parse(text)
			require.NoError(t, err)
			list = append(list, uri)
		}
		return list
	}
	common := pkix.Name{CommonName: "common"}
	for name, c := range map[string]struct {
		certificate x509.Certificate
		want        string
		refused     bool
	}{
		"common name":     {certificate: x509.Certificate{Subject: common}, want: "common"},
		"URI":             {certificate: x509.Certificate{Subject: common, URIs: uris("mooring:device:boiler-7")}, want: "boiler-7"},
		"URI, escaped":    {certificate: x509.Certificate{URIs: uris("mooring:device:b%C3%B6iler/7")}, want: "böiler/7"},
		"other URIs":      {certificate: x509.Certificate{Subject: common, URIs: uris("spiffe://x/device", "mooring:server:x")}, want: "common"},
		"two URIs":        {certificate: x509.Certificate{Subject: common, URIs: uris("mooring:device:a", "mooring:device:b")}, refused: true},
		"empty URI":       {certificate: x509.Certificate{Subject: common, URIs: uris("mooring:device:")}, refused: true},
		"host's name":     {certificate: x509.Certificate{DNSNames: []string{"device-7"}}},
		"electronic mail": {certificate: x509.Certificate{EmailAddresses: []string{"device-7"}}},
	} {
		got, bad := deviceIn(&c.certificate)
		require.Equal(t, c.refused, bad != nil, name)
		require.Equal(t, c.want, got, name)
	}
}

func TestCertificateRequired(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest(http.MethodGet, wire.StreamPath, nil)
	r.Header.Set("Authorization", "Bearer x")
	_, bad := credential(r, nil, true)
	require.Equal(t, http.StatusUnauthorized, bad.status)
	require.Equal(t, "no_certificate", bad.label)
	// One that names nobody opens the door for the token.
	certificate := &x509.Certificate{SerialNumber: big.NewInt(1)}
	r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{certificate}}}
	found, bad := credential(r, nil, true)
	require.Nil(t, bad)
	require.Equal(t, Credential{Token: "x"}, found)
}

func TestHandshakeIsTurnedAwayWhenFull(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.MaxConnections = 1
	sv := serve(t, cfg, newFakeStore())
	d := sv.join(t, 1)
	_, _, response := sv.handshake(t, "GET", wire.StreamPath, http.Header{"Authorization": {"Bearer token-2"}})
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	after, err := strconv.Atoi(response.Header.Get("Retry-After"))
	require.NoError(t, err)
	require.InDelta(t, 15.5, after, 15)
	d.conn.Close()
	eventually(t, func() bool { return sv.gateway.Stats().Connections == 0 }, "the place is free again")
	sv.join(t, 2)
}

func TestHandshakeStormWaitsOutside(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.MaxHandshakes = 1
	sv := serve(t, cfg, newFakeStore())
	sv.registry.unknown = map[string]bool{"token-2": true}
	sv.gateway.handshakes <- struct{}{} // one is being asked for
	_, _, response := sv.handshake(t, "GET", wire.StreamPath, http.Header{"Authorization": {"Bearer token-2"}})
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	require.NotEmpty(t, response.Header.Get("Retry-After"))
	sv.join(t, 1) // who is known has nobody to wait for, and is let in
	<-sv.gateway.handshakes
	sv.join(t, 2)
}

func TestHandshakeBeforeStartIsRefused(t *testing.T) {
	t.Parallel()
	registry := newFakeRegistry()
	g, err := New(Config{}, registry, registry, newFakeStore())
	require.NoError(t, err)
	recorder := httptest.NewRecorder()
	g.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, wire.StreamPath, nil))
	require.Equal(t, http.StatusServiceUnavailable, recorder.Code)
	require.NoError(t, g.Stop(t.Context()))
	require.NoError(t, g.Stop(t.Context()), "again")
	require.Error(t, g.Start(t.Context()))
}
