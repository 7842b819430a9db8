package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

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
	writeProblem(w, &huma.ErrorModel{Title: http.StatusText(status), Status: status, Detail: detail})
}

func writeProblem(w http.ResponseWriter, model *huma.ErrorModel) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(model.Status)
	_ = json.NewEncoder(w).Encode(model) // whoever asked may be gone
}

// onlyText refuses addresses with what is no text to PostgreSQL, in the names of
// things and in parameters: it would answer as if the database were at fault.
func onlyText(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		where := ""
		if !isText(r.URL.Path) {
			where = "path"
		}
		for name, values := range r.URL.Query() {
			for _, value := range values {
				if !isText(name) || !isText(value) {
					where = fmt.Sprintf("query.%.40s", strings.ToValidUTF8(name, "\uFFFD"))
				}
			}
		}
		if where == "" {
			next.ServeHTTP(w, r)
			return
		}
		wrong := &huma.ErrorDetail{Message: "must be UTF-8 text without U+0000", Location: where}
		writeProblem(w, &huma.ErrorModel{
			Title: http.StatusText(http.StatusUnprocessableEntity), Status: http.StatusUnprocessableEntity,
			Detail: where + " " + wrong.Message, Errors: []*huma.ErrorDetail{wrong},
		})
	})
}

func isText(value string) bool { return utf8.ValidString(value) && strings.IndexByte(value, 0) < 0 }
