package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"slices"
	"time"
)

//go:embed files
var embedded embed.FS

const (
	folder = "files"
	// prefix is where the files are, but for the page itself and its worker,
	// which may look after the whole page only from above.
	prefix = "/page/"
	index  = "index.html"
	worker = "worker.js"
)

// policy lets the page load what comes from its own server, and nothing that
// stands in the markup run. Scripts make no markup from text either, which
// browsers that know trusted types enforce.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types mooring"

// types are those of the files; the system's list may lack them or differ.
var types = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
	".svg": "image/svg+xml", ".webmanifest": "application/manifest+json",
}

// file is one answer.
type file struct {
	content []byte
	kind    string
	tag     string // changes with the content
}

// Routes are the patterns, as http.ServeMux has them, of what Handler answers.
func Routes() []string { return []string{"GET /{$}", "GET " + prefix, "GET /" + worker} }

// Link is the address that opens the page of a server, as
// https://mooring.example.org, and logs in with the secret of a link.
func Link(server, secret string) string { return server + "/#login=" + secret }

// Handler answers with the page and its files.
func Handler() http.Handler {
	files := load()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		found, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		header := w.Header()
		header.Set("Content-Type", found.kind)
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		// Asked for every time, and answered with 304 mostly: after an upgrade no
		// page is half old.
		header.Set("Cache-Control", "no-cache")
		header.Set("ETag", found.tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(found.content))
	})
}

// load reads the files by the path they are asked for.
func load() map[string]file {
	entries, err := embedded.ReadDir(folder)
	if err != nil {
		panic(err) // they are part of the program
	}
	files := make(map[string]file, len(entries))
	paths := []string{"/"}
	var markup, modules []byte
	add := func(at, name string, content []byte) {
		sum := sha256.Sum256(content)
		files[at] = file{content, types[path.Ext(name)], `"` + hex.EncodeToString(sum[:8]) + `"`}
	}
	var script []byte
	for _, entry := range entries {
		name := entry.Name()
		content, err := embedded.ReadFile(path.Join(folder, name))
		if err != nil {
			panic(err)
		}
		switch name {
		case index:
			markup = content
		case worker:
			script = content
		default:
			add(prefix+name, name, content)
			if path.Ext(name) == ".js" {
				modules = fmt.Appendf(modules, "<link rel=\"modulepreload\" href=\"%s%s\">\n", prefix, name)
			}
			paths = append(paths, prefix+name)
		}
	}
	// All modules at once, not one after the other as they import each other.
	add("/", index, bytes.Replace(markup, []byte("<!-- modules -->\n"), modules, 1))
	slices.Sort(paths)
	list, err := json.Marshal(paths)
	if err != nil {
		panic(err)
	}
	add("/"+worker, worker, bytes.Replace(script, []byte(`["/"]`), list, 1))
	return files
}
