package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// certificatesEvery is how often the certificate files are looked at.
const certificatesEvery = 10 * time.Second

// certificates holds the TLS configuration and keeps it in step with its files.
// New files count for new connections; those that are open stay as they are.
// Files that can't be used change nothing: the old configuration stays, and the
// log and a metric say so. Its one goroutine ends with stop.
type certificates struct {
	cert, key, ca string // files; ca may be empty
	minVersion    uint16
	logger        *slog.Logger
	current       atomic.Pointer[tls.Config]

	reloads *prometheus.CounterVec
	expires prometheus.Gauge

	mu   sync.Mutex
	seen [sha256.Size]byte // of the files that were looked at last
	err  error             // what was wrong with them

	ended sync.WaitGroup
	end   context.CancelFunc
}

// openCertificates reads the files; nil: no TLS.
func openCertificates(cfg *Config) (*certificates, error) {
	if cfg.TLSCert == "" {
		return nil, nil //nolint:nilnil // no TLS is a choice and no error
	}
	c := &certificates{
		cert: cfg.TLSCert, key: cfg.TLSKey, ca: cfg.TLSClientCA, minVersion: tls.VersionTLS12, logger: cfg.Logger,
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mooring_tls_reloads_total",
			Help: "Changed certificate files, by result: done, or failed; then the old certificate stays.",
		}, []string{"result"}),
		expires: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mooring_tls_certificate_expires_seconds",
			Help: "When the certificate in use expires, in seconds since 1970.",
		}),
	}
	if cfg.TLSMinVersion == "1.3" {
		c.minVersion = tls.VersionTLS13
	}
	for _, result := range []string{"done", "failed"} {
		c.reloads.WithLabelValues(result)
	}
	config, seen, err := c.read()
	if err != nil {
		return nil, err
	}
	c.seen = seen
	c.use(config)
	return c, nil
}

func (c *certificates) use(config *tls.Config) {
	c.current.Store(config)
	c.expires.Set(float64(config.Certificates[0].Leaf.NotAfter.Unix()))
}

// read makes a configuration of the files as they are now, and a digest of them.
func (c *certificates) read() (*tls.Config, [sha256.Size]byte, error) {
	var contents [3][]byte
	var faults []error
	for i, file := range []struct{ flag, path string }{
		{"--tls-cert", c.cert}, {"--tls-key", c.key}, {"--tls-client-ca", c.ca},
	} {
		if file.path == "" {
			continue
		}
		content, err := os.ReadFile(file.path)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", file.flag, err))
		}
		contents[i] = content
	}
	digest := sha256.Sum256(bytes.Join(contents[:], []byte{0}))
	if err := errors.Join(faults...); err != nil {
		return nil, digest, err
	}
	pair, err := tls.X509KeyPair(contents[0], contents[1])
	if err != nil { // crypto/tls names the fault and never what is in the key
		return nil, digest, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	config := &tls.Config{
		MinVersion:   c.minVersion,
		Certificates: []tls.Certificate{pair},
		NextProtos:   []string{"http/1.1"}, // WebSockets need HTTP/1.1
	}
	if c.ca != "" {
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(contents[2]) {
			return nil, digest, errors.New("--tls-client-ca: the file holds no certificate in PEM form")
		}
		// Devices with tokens need no certificate; where one is required, the
		// gateway says so over HTTP, which a person can read.
		config.ClientAuth = tls.VerifyClientCertIfGiven
		// A resumed session is not checked as a new one is: an authority that
		// was taken out of the file must be out at once.
		config.SessionTicketsDisabled = true
	}
	return config, digest, nil
}

// reload looks at the files. If they changed since the last look, it takes them
// over, or says what is wrong with them.
func (c *certificates) reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	config, seen, err := c.read()
	if seen == c.seen {
		return c.err // nothing new to say
	}
	c.seen, c.err = seen, err
	if err != nil {
		c.reloads.WithLabelValues("failed").Inc()
		c.logger.Error("the changed certificate files can't be used; the certificate from before stays in use",
			"error", err, "expires", c.current.Load().Certificates[0].Leaf.NotAfter)
		return err
	}
	c.use(config)
	c.reloads.WithLabelValues("done").Inc()
	leaf := config.Certificates[0].Leaf
	c.logger.Info("certificate files reloaded", "serial", leaf.SerialNumber.Text(16), "expires", leaf.NotAfter)
	return nil
}

// start looks at the files every so often, until stop.
func (c *certificates) start(ctx context.Context, every time.Duration) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.end = cancel
	c.ended.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				_ = c.reload() // says itself what is wrong
			}
		}
	})
}

// startCertificates watches the certificate files, if there are any.
func (a *App) startCertificates(ctx context.Context) error {
	if a.certificates != nil {
		a.registerer.MustRegister(a.certificates.reloads, a.certificates.expires)
		a.certificates.start(ctx, a.reloadEvery)
		a.onStop("certificates", a.certificates.stop)
	}
	return nil
}

func (c *certificates) stop(context.Context) error {
	c.end()
	c.ended.Wait()
	return nil
}

// listener speaks TLS on a listener; on nil it does not.
func (c *certificates) listener(inner net.Listener) net.Listener {
	if c == nil {
		return inner
	}
	return tls.NewListener(inner, &tls.Config{
		MinVersion: c.minVersion,
		// The one that holds when the connection comes.
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current.Load(), nil },
	})
}

// Reload looks at the certificate files at once instead of within some seconds.
// What can't be used changes nothing; the log says what is wrong.
func (a *App) Reload() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.certificates != nil {
		_ = a.certificates.reload() // says itself what is wrong
	}
}
