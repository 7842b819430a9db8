//go:build !unix

package app

// fileLimit is not known here.
func fileLimit() int { return 0 }
