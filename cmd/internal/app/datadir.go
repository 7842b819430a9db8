package app

import (
	"os"
	"path/filepath"
	"runtime"
)

// userDataDir follows each system's habit for data that belongs to a user and
// is no cache.
func userDataDir() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return "mooring-data" // no home: beside whoever starts it
	}
	switch runtime.GOOS {
	case "darwin":
		return filepath.Join(home, "Library", "Application Support", "mooring")
	case "windows":
		if directory := os.Getenv("LOCALAPPDATA"); directory != "" {
			return filepath.Join(directory, "mooring")
		}
	}
	return filepath.Join(home, ".local", "share", "mooring")
}
