// Package conform holds device programs against docs/PROTOCOL.md: it plays a
// scripted server that acknowledges late, goes away, refuses, throttles and
// breaks the line, and reports which of the device's rules a program keeps.
//
// Every scenario has a program started afresh and a listener of its own, and ends
// within a minute. A rule is kept if at least one scenario has shown so and none
// has shown the contrary; what no scenario could show says why.
//
// # Goroutines
//
// Run starts one per scenario, a bounded number at a time, and each scenario one
// that accepts and one per connection that reads. Run returns when all of them
// have ended and every program that it started has been ended.
package conform
