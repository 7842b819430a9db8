package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"
)

// serverFlags say where the server is.
type serverFlags struct {
	URL string `name:"url" env:"MOORING_URL" default:"ws://127.0.0.1:8080/v1/stream" placeholder:"URL" group:"Server" help:"The server's endpoint, ws or wss (${default})."`
	CA  string `name:"ca" placeholder:"FILE" group:"Server" help:"Authorities (PEM) to trust in place of the system's, for wss."`
}

// tls is how to speak wss; nil: as the system does.
func (s *serverFlags) tls() (*tls.Config, error) {
	if s.CA == "" {
		return nil, nil //nolint:nilnil // nothing special is wanted
	}
	pem, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, &usageError{"--ca: " + err.Error()}
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, &usageError{"--ca: no certificate in the file"}
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}
