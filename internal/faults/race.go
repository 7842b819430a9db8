//go:build race

package faults

const withRace = true
