package devices

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

func TestTokensAreUniqueRecognisableAndLegalEverywhere(t *testing.T) {
	t.Parallel()
	const tchar = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	seen := make(map[string]bool)
	for range 1000 {
		token := newToken()
		require.Len(t, token, 62)
		require.True(t, strings.HasPrefix(token, "mrg_"))
		require.Empty(t, strings.Trim(wire.TokenSubprotocolPrefix+token, tchar), "a subprotocol is an RFC 7230 token")
		require.False(t, strings.ContainsAny(token[4:], "ilou"), "letters that are mistaken for others")
		require.True(t, looksLikeToken(token))
		require.False(t, seen[token])
		seen[token] = true
	}
}

func TestMistypedTokensAreRecognised(t *testing.T) {
	t.Parallel()
	token := newToken()
	for i := range token {
		for _, c := range "07az_Z\x00" {
			mistyped := token[:i] + string(c) + token[i+1:]
			if mistyped == token {
				continue
			}
			// The last character carries two spare bits, which are not checked
			// here; its hash is another one.
			if i == len(token)-1 && looksLikeToken(mistyped) {
				require.NotEqual(t, tokenKey(token), tokenKey(mistyped))
				continue
			}
			require.False(t, looksLikeToken(mistyped), "character %d as %q", i, c)
		}
	}
	require.False(t, looksLikeToken(""))
	require.False(t, looksLikeToken(token[:61]))
	require.False(t, looksLikeToken(token+"0"))
	require.False(t, looksLikeToken(token[:30]+"\n"+token[31:]), "base32 would skip a line feed")
}

func TestACertificateIsNoToken(t *testing.T) {
	t.Parallel()
	token := newToken()
	require.NotEqual(t, tokenKey(token), certificateKey(token, "1"))
	require.NotEqual(t, tokenKey("certificate\x00a"), certificateKey("b", "1"))
}

func TestDeviceNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "boiler-7", "sensor.17/b", "Kühlhaus-3", "测站", strings.Repeat("x", 128)} {
		require.NoError(t, CheckName(name), name)
	}
	for name, problem := range map[string]string{
		"":                       "empty",
		strings.Repeat("x", 129): "at most 128",
		"a b":                    "spaces",
		"a\u00a0b":               "spaces",
		"a\x00":                  "printable",
		"a\n":                    "printable",
		"a\u200b":                "printable",
		"user:name":              "colon",
		"a\xff":                  "UTF-8",
	} {
		err := CheckName(name)
		var field *FieldError
		require.ErrorAs(t, err, &field, "%q", name)
		require.Equal(t, "name", field.Field)
		require.ErrorContains(t, err, problem)
	}
}

func FuzzLooksLikeToken(f *testing.F) {
	f.Add(newToken())
	f.Add("mrg_" + strings.Repeat("0", 58))
	f.Fuzz(func(t *testing.T, text string) {
		if looksLikeToken(text) {
			require.Len(t, text, 62)
			require.NotContains(t, text, "\x00")
		}
	})
}

func FuzzParseNotification(f *testing.F) {
	f.Add("revoked 1 2 1700000000000")
	f.Add("added 0 0")
	f.Fuzz(func(t *testing.T, payload string) {
		n, err := parseNotification(payload)
		if err == nil {
			require.NotEmpty(t, n.kind)
		}
	})
}
