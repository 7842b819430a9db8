package conform

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// certificate is what a server shows to a program.
type certificate int

const (
	noTLS      certificate = iota
	good                   // for this host, of the authority that the program is told of
	ofNobody               // of another authority
	forAnother             // for another host
	outOfDate              // it has expired
)

func (c certificate) String() string {
	return [...]string{"no certificate", "a good certificate", "a certificate of an unknown authority", "a certificate for another host", "a certificate that has expired"}[c]
}

// authorities are one that programs are told of, in a file, and one that nobody knows.
type authorities struct {
	file           string
	known, unknown authority
}

type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthorities() (*authorities, error) {
	a := &authorities{}
	for _, of := range []*authority{&a.known, &a.unknown} {
		signed, key, err := issue(nil, &x509.Certificate{
			Subject: pkix.Name{CommonName: "an authority for a test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		})
		if err != nil {
			return nil, err
		}
		if of.certificate, err = x509.ParseCertificate(signed); err != nil {
			return nil, fmt.Errorf("read a certificate: %w", err)
		}
		of.key = key
	}
	file, err := os.CreateTemp("", "mooring-conform-*.pem")
	if err != nil {
		return nil, fmt.Errorf("write the authority's certificate: %w", err)
	}
	a.file = file.Name()
	err = pem.Encode(file, &pem.Block{Type: "CERTIFICATE", Bytes: a.known.certificate.Raw})
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err != nil {
		a.remove()
		return nil, fmt.Errorf("write the authority's certificate: %w", err)
	}
	return a, nil
}

func (a *authorities) remove() { _ = os.Remove(a.file) }

// show makes a certificate for this host, wrong as asked for.
func (a *authorities) show(what certificate) (*tls.Config, error) {
	by := &a.known
	leaf := &x509.Certificate{
		Subject: pkix.Name{CommonName: "a server"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	switch what {
	case ofNobody:
		by = &a.unknown
	case forAnother:
		leaf.DNSNames, leaf.IPAddresses = []string{"other.example"}, nil
	case outOfDate:
		leaf.NotBefore, leaf.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	case noTLS, good:
	}
	signed, key, err := issue(by, leaf)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		Certificates: []tls.Certificate{{Certificate: [][]byte{signed}, PrivateKey: key}},
	}, nil
}

// issue signs a certificate with a key of its own; by nil: by itself.
func issue(by *authority, template *x509.Certificate) ([]byte, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	parent, signer := template, key
	if by != nil {
		parent, signer = by.certificate, by.key
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, nil, fmt.Errorf("sign a certificate: %w", err)
	}
	return signed, key, nil
}
