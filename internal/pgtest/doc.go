// Package pgtest gives tests a real Postgres.
//
// Each test process starts one throwaway cluster when a test first asks for a
// database, with fsync off and in memory where the system has a folder there. A database with the schema is made once and copied
// for every test, which takes a few hundredths of a second; the copy is dropped
// when the test ends. The cluster and its directory go away with the process,
// also when that panics or is killed.
//
// A package whose tests use it says
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
// which also checks that no goroutine is left behind.
//
// Where no PostgreSQL is installed tests are skipped, with the reason; with
// CI=true they fail. MOORING_TEST_POSTGRES_BIN names the folder of the
// PostgreSQL to use, for trying another version.
//
// The shared cluster's goroutines are owned by this package and ended by Main;
// those of Cluster by the test's cleanup.
package pgtest
