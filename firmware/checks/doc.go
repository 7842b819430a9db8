// Package checks tests the device client in C, which lies in the folder above:
// it compiles it with several compilers, runs its tests, and has it talk to the
// real server. It has no code of its own beside its tests, starts no goroutine,
// and ends every process that it started.
//
// A test whose tool is not installed is skipped; on a build server, where CI is
// true, it fails and says what to install.
package checks
