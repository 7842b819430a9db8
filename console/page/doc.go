// Package page serves the console: one page application, embedded in the binary,
// that talks to the HTTP API and /v1/live of the server it came from.
//
// It has no build step: files/ is what the browser gets, modules as they are
// written (docs/decisions/150). Everything comes from the server itself, under a
// Content-Security-Policy that lets nothing else in. The package starts no
// goroutine.
package page
