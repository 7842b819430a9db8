//go:build linux || darwin

package embedded

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// scramVerifier is what Postgres stores for a password (RFC 5803, as in
// pg_authid.rolpassword). Handing Postgres the verifier keeps the password
// itself out of statements, and so out of any log.
func scramVerifier(secret string) (string, error) {
	var salt [16]byte
	_, _ = rand.Read(salt[:]) // never fails
	return scramVerifierWith(secret, salt[:], 4096)
}

func scramVerifierWith(secret string, salt []byte, iterations int) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, secret, salt, iterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("derive password verifier: %w", err)
	}
	sign := func(key []byte, text string) []byte {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(text))
		return mac.Sum(nil)
	}
	stored := sha256.Sum256(sign(salted, "Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, encode(salt), encode(stored[:]), encode(sign(salted, "Server Key"))), nil
}

// scramMatches tells whether the verifier was made from this password.
func scramMatches(verifier, secret string) bool {
	rest, found := strings.CutPrefix(verifier, "SCRAM-SHA-256$")
	if !found {
		return false
	}
	head, _, _ := strings.Cut(rest, "$")
	count, encoded, _ := strings.Cut(head, ":")
	iterations, err := strconv.Atoi(count)
	if err != nil || iterations < 1 || iterations > 1_000_000 {
		return false
	}
	salt, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return false
	}
	again, err := scramVerifierWith(secret, salt, iterations)
	return err == nil && hmac.Equal([]byte(again), []byte(verifier))
}
