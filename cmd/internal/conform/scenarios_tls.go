package conform

import (
	"crypto/tls"
	"errors"
	"time"
)

// playTLS has the program speak TLS (PROTOCOL §2.1).
func playTLS(s *stage) {
	l := s.accept(startPatience)
	if l == nil {
		s.mu.Lock()
		hungUp := s.hungUp
		s.mu.Unlock()
		switch {
		case isPlain(hungUp):
			s.broken(ruleTLS, "it spoke without TLS to a URL that begins with wss")
		case hungUp != nil:
			s.notShown(ruleTLS, "it did not take the certificate (%v): is it told of the authority in SSL_CERT_FILE, NODE_EXTRA_CA_CERTS or {ca}?", hungUp)
		default:
			s.notShown(ruleTLS, "the program did not connect")
		}
		return
	}
	l.welcome(nil)
	if s.enough(l, []string{ruleTLS}, 1) {
		s.kept(ruleTLS)
	}
}

// playWrongCertificate shows a certificate that the program must not take, and looks
// whether it brings its credential nevertheless (PROTOCOL §2.1).
func playWrongCertificate(s *stage) {
	asked := func() bool { return len(s.attempts) > 0 }
	s.until(startPatience, func() bool { return asked() || s.hungUp != nil })
	s.until(300*time.Millisecond, asked) // a second attempt, without a check
	s.mu.Lock()
	hungUp, brought := s.hungUp, asked()
	s.mu.Unlock()
	switch {
	case brought:
		s.broken(ruleTLSCheck, "it took %s, and brought its credential", s.shown)
	case isPlain(hungUp):
		s.broken(ruleTLSCheck, "it spoke without TLS to a URL that begins with wss")
	case hungUp == nil:
		s.notShown(ruleTLSCheck, "the program did not connect")
	default:
		s.kept(ruleTLSCheck)
	}
}

// isPlain tells whether the other side did not speak TLS at all.
func isPlain(err error) bool {
	var header tls.RecordHeaderError
	return errors.As(err, &header)
}
