package console

import (
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// requestOf is the request behind a huma.Context.
func requestOf(ctx huma.Context) *http.Request {
	request, _ := humago.Unwrap(ctx)
	return request
}

// problem answers with a problem detail (RFC 9457) where huma is not at work.
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(&huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: detail})
}
