package page

import (
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func ask(t *testing.T, at string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, at, http.NoBody)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	answer := httptest.NewRecorder()
	Handler().ServeHTTP(answer, request)
	return answer
}

// Every file has a type, a policy that lets nothing from elsewhere in, and a tag
// that saves sending it again.
func TestFiles(t *testing.T) {
	t.Parallel()
	files := load()
	require.Greater(t, len(files), 15)
	for at, file := range files {
		require.NotEmpty(t, file.kind, at)
		answer := ask(t, at)
		require.Equal(t, http.StatusOK, answer.Code, at)
		require.Contains(t, answer.Header().Get("Content-Security-Policy"), "default-src 'none'; script-src 'self';")
		require.NotContains(t, answer.Header().Get("Content-Security-Policy"), "unsafe")
		require.Equal(t, http.StatusNotModified, ask(t, at, "If-None-Match", answer.Header().Get("ETag")).Code, at)
	}
	for _, at := range []string{"/page/", "/page/none.js", "/page/../page.go", "/page/index.html"} {
		require.Equal(t, http.StatusNotFound, ask(t, at).Code, at)
	}
}

// The page loads nothing from elsewhere, and nothing in it needs what the policy
// forbids.
func TestNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	namespace := regexp.MustCompile(`http://www\.w3\.org/(2000/svg|1999/xlink)`)
	for at, file := range load() {
		text := namespace.ReplaceAllString(string(file.content), "")
		require.NotRegexp(t, `https?://\w`, text, at)
		require.NotRegexp(t, `innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function`, text, at)
		if path.Ext(at) == "" || at == "/" {
			require.NotRegexp(t, `<script(>| [^>]*>\s*[^<\s])|<style|\son\w+=|\sstyle=`, text, at)
		}
		for _, match := range regexp.MustCompile(`(?:from|import) "(\./[\w.]+)"`).FindAllStringSubmatch(text, -1) {
			require.Contains(t, load(), "/page/"+strings.TrimPrefix(match[1], "./"), at)
		}
	}
}

// The worker keeps all files, and the page asks for all modules at once.
func TestListsOfFiles(t *testing.T) {
	t.Parallel()
	worker, markup := ask(t, "/worker.js").Body.String(), ask(t, "/").Body.String()
	for at := range load() {
		if at != "/worker.js" {
			require.Contains(t, worker, `"`+at+`"`)
		}
		if path.Ext(at) == ".js" && at != "/worker.js" {
			require.Contains(t, markup, `<link rel="modulepreload" href="`+at+`">`)
		}
	}
	require.Contains(t, markup, "/v1/stream", "whoever has no JavaScript learns where devices connect")
}
