//go:build race

package client

// The race detector makes sync.Pool forget at random.
const underRace = true
