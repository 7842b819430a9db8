// Package archtest holds the import rules of docs/ARCHITECTURE.md and the test
// that enforces them. It reads import clauses only: no build, no goroutines,
// and files of every operating system are seen.
package archtest
