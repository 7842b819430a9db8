// Package loopback finds addresses of this machine for the servers of tests that
// are stopped and started again at the same one. It starts no goroutine.
package loopback
