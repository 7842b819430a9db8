package embedded

// Info tells how to reach a running cluster.
type Info struct {
	URL       string // of the owning role; holds a password
	ReaderURL string // of the reading role; holds a password
	PID       int    // of Postgres' main process
	Version   string // as in "15.18", or "15" where only the major version is known
	BinDir    string // the programs that run it; empty if not known
	DataDir   string
	LogPath   string
}
