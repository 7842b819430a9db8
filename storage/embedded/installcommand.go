//go:build linux || darwin

package embedded

import (
	"os"
	"runtime"
	"strconv"
	"strings"
)

// installCommand is what a person types to install PostgreSQL here; major 0
// means whichever version is usual.
func installCommand(major int) string {
	release, _ := os.ReadFile("/etc/os-release")
	return installCommandFor(runtime.GOOS, string(release), os.Geteuid() == 0, major)
}

func installCommandFor(system, osRelease string, root bool, major int) string {
	sudo := "sudo "
	if root {
		sudo = ""
	}
	version := ""
	if major != 0 {
		version = strconv.Itoa(major)
	}
	if system == "darwin" {
		if major == 0 {
			major = newestMajor
		}
		return "brew install postgresql@" + strconv.Itoa(major)
	}
	fields := osReleaseFields(osRelease)
	for _, id := range append([]string{fields["ID"]}, strings.Fields(fields["ID_LIKE"])...) {
		switch id {
		case "debian", "ubuntu":
			if version != "" {
				version = "-" + version
			}
			return sudo + "apt-get update && " + sudo + "apt-get install -y postgresql" + version
		case "fedora":
			if version != "" {
				return sudo + "dnf install -y postgresql" + version + "-server"
			}
			return sudo + "dnf install -y postgresql-server"
		case "rhel", "centos":
			// The default of releases 8 and 9 is older than 15; 16 is a module there.
			release, _, _ := strings.Cut(fields["VERSION_ID"], ".")
			if release == "8" || release == "9" {
				if version == "" {
					version = "16"
				}
				return sudo + "dnf module install -y postgresql:" + version + "/server"
			}
			return sudo + "dnf install -y postgresql" + version + "-server"
		case "alpine":
			if version == "" {
				version = "17"
			}
			return sudo + "apk add postgresql" + version
		case "arch":
			return sudo + "pacman -S postgresql"
		case "suse", "opensuse":
			return sudo + "zypper install postgresql" + version + "-server"
		}
	}
	return "(the package manager of this system) install postgresql" + version + ", server included"
}

// osReleaseFields reads /etc/os-release: NAME=value lines, values maybe quoted.
func osReleaseFields(content string) map[string]string {
	fields := make(map[string]string)
	for line := range strings.Lines(content) {
		name, value, found := strings.Cut(strings.TrimSpace(line), "=")
		if found {
			fields[name] = strings.Trim(value, `"'`)
		}
	}
	return fields
}
