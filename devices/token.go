package devices

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"hash/crc32"
	"strings"
)

// A token reads mrg_ and 58 characters: base32 of 32 random bytes and their
// CRC-32 (docs/decisions/050-tokens.md). The alphabet is Crockford's in small
// letters, without i, l, o and u: nothing to mix up when it is read aloud, and
// every character may stand in a WebSocket subprotocol (RFC 7230 tchar) and in
// an HTTP header.
const (
	tokenPrefix   = "mrg_" // of devices
	userPrefix    = "mru_" // of users: neither is ever taken for the other
	tokenBits     = 256
	tokenChecksum = 4 // bytes
	maxToken      = 256
)

var (
	tokenEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)
	tokenLength   = len(tokenPrefix) + tokenEncoding.EncodedLen(tokenBits/8+tokenChecksum)
)

// newToken makes a device's token from the system's randomness.
func newToken() string { return newSecret(tokenPrefix) }

func newSecret(prefix string) string {
	var raw [tokenBits/8 + tokenChecksum]byte
	secret := raw[:tokenBits/8]
	_, _ = rand.Read(secret) // never fails: crypto/rand ends the process instead
	binary.BigEndian.PutUint32(raw[len(secret):], crc32.ChecksumIEEE(secret))
	return prefix + tokenEncoding.EncodeToString(raw[:])
}

// looksLikeToken says whether text has the form and the checksum of a token.
// What has not, was mistyped or guessed, and is refused without asking Postgres.
func looksLikeToken(text string) bool { return looksLikeSecret(text, tokenPrefix) }

func looksLikeSecret(text, prefix string) bool {
	if len(text) != tokenLength || !strings.HasPrefix(text, prefix) {
		return false
	}
	raw, err := tokenEncoding.DecodeString(text[len(tokenPrefix):])
	if err != nil || len(raw) != tokenBits/8+tokenChecksum { // the decoder skips line feeds
		return false
	}
	secret := raw[:tokenBits/8]
	return binary.BigEndian.Uint32(raw[len(secret):]) == crc32.ChecksumIEEE(secret)
}

// credentialKey is how a credential is looked up: the sha-256 of a token's
// text, as stored, or, for a certificate, of the device's name in it and its
// serial number behind a prefix that no token begins with.
type credentialKey [sha256.Size]byte

// tokenKey hashes a token of at most maxToken bytes. It does not allocate.
func tokenKey(token string) credentialKey {
	var text [maxToken]byte
	return sha256.Sum256(text[:copy(text[:], token)])
}

func certificateKey(name, serial string) credentialKey {
	return sha256.Sum256([]byte("certificate\x00" + name + "\x00" + serial))
}
