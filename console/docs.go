package console

import (
	_ "embed"
	"net/http"
)

// docs shows the OpenAPI document. It loads nothing but that.
//
//go:embed docs.html
var docs []byte

func serveDocs(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	_, _ = w.Write(docs) // whoever asked may be gone
}
