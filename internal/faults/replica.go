//go:build linux

package faults

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"mooring/internal/loopback"
)

// Replica is a synchronous standby of the stage's own cluster.
type Replica struct {
	stage     *Stage
	directory string
	address   string
	process   *process
}

// StartReplica copies the stage's cluster, starts the copy as a standby, and
// makes the primary wait for it with every commit. Needs Options.OwnPostgres.
// It is stopped and removed when the test ends.
func (s *Stage) StartReplica() *Replica {
	s.tb.Helper()
	info := s.Postgres.Info()
	cluster := filepath.Join(info.DataDir, "cluster")
	basebackup := filepath.Join(info.BinDir, "pg_basebackup")
	if _, err := os.Stat(basebackup); err != nil {
		Unable(s.tb, "copy a cluster", err)
	}
	r := &Replica{stage: s, address: loopback.FreeAddress(s.tb)}
	r.letIn(cluster)
	account := accountOf(s, cluster)
	// Beside the cluster, whose watchdog removes it too.
	r.directory = filepath.Join(info.DataDir, "replica")
	if err := os.Mkdir(r.directory, 0o700); err != nil {
		s.tb.Fatalf("faults: %v", err)
	}
	if account != nil {
		if err := os.Chown(r.directory, int(account.Uid), int(account.Gid)); err != nil {
			s.tb.Fatalf("faults: %v", err)
		}
	}
	data := filepath.Join(r.directory, "data")
	r.copy(basebackup, data, account)
	log, err := os.Create(filepath.Join(s.dir, "replica.log"))
	if err != nil {
		s.tb.Fatalf("faults: %v", err)
	}
	defer log.Close()
	_, port, _ := strings.Cut(r.address, ":")
	r.process, err = launchAs(account, r.directory, log, filepath.Join(info.BinDir, "postgres"), "-D", data, "-c", "port="+port)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(func() {
		r.process.signal(syscall.SIGQUIT)
		if _, err := r.process.wait(Patience); err != nil {
			s.tb.Error(err)
		}
	})
	s.SQL("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
	s.Await("the standby to be synchronous", func() error {
		rows := s.SQL("SELECT sync_state FROM pg_stat_replication")
		if len(rows) != 1 || rows[0][0] != "sync" {
			content, _ := os.ReadFile(log.Name())
			return fmt.Errorf("pg_stat_replication says %v; the standby: %s", rows, tail(string(content), 5))
		}
		return nil
	})
	return r
}

// letIn lets replication connections into the primary.
func (r *Replica) letIn(cluster string) {
	s := r.stage
	s.tb.Helper()
	file, err := os.OpenFile(filepath.Join(cluster, "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = file.WriteString("host replication all 127.0.0.1/32 scram-sha-256\n")
		file.Close()
	}
	if err != nil {
		s.tb.Fatalf("faults: %v", err)
	}
	s.SQL("SELECT pg_reload_conf()")
}

// copy makes a base backup that follows the primary.
func (r *Replica) copy(program, data string, account *syscall.Credential) {
	s := r.stage
	s.tb.Helper()
	address, err := url.Parse(s.SuperURL)
	if err != nil {
		s.tb.Fatal("faults: not a URL")
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "--pgdata="+data, "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync", //nolint:gosec // PostgreSQL's own program
		"--host="+address.Hostname(), "--port="+address.Port(), "--username="+address.User.Username())
	password, _ := address.User.Password()
	cmd.Env = append(os.Environ(), "PGPASSWORD="+password)
	cmd.Dir = r.directory
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: account}
	if output, err := cmd.CombinedOutput(); err != nil {
		s.tb.Fatalf("faults: pg_basebackup: %v: %s", err, output)
	}
}

// accountOf is who runs the cluster; nil: this process' own user.
func accountOf(s *Stage, cluster string) *syscall.Credential {
	s.tb.Helper()
	info, err := os.Stat(cluster)
	if err != nil {
		s.tb.Fatalf("faults: %v", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid, NoSetGroups: false}
}

// SuperURL is the superuser's URL of the standby.
func (r *Replica) SuperURL() string { return r.at(r.stage.SuperURL) }

// at is a URL of the primary with the standby's address.
func (r *Replica) at(primary string) string {
	address, err := url.Parse(primary)
	if err != nil {
		r.stage.tb.Fatal("faults: not a URL")
	}
	address.Host = r.address
	return address.String()
}

// BothURL is what a server is given that is to follow a fail-over: both hosts,
// of which it takes the one that can be written to.
func (r *Replica) BothURL() string {
	address, err := url.Parse(r.stage.DatabaseURL)
	if err != nil {
		r.stage.tb.Fatal("faults: not a URL")
	}
	address.Host += "," + r.address
	query := address.Query()
	query.Set("target_session_attrs", "read-write")
	address.RawQuery = query.Encode()
	return address.String()
}

// Promote makes the standby a primary of its own, and the stage's from now on.
func (r *Replica) Promote() {
	s := r.stage
	s.tb.Helper()
	s.DatabaseURL, s.SuperURL = r.at(s.DatabaseURL), r.SuperURL()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.SuperURL)
	if err != nil {
		s.tb.Fatalf("faults: %v", err)
	}
	defer conn.Close(ctx)
	// Its own commits wait for nobody.
	for _, statement := range []string{"ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_promote(true, " + strconv.Itoa(int(Patience/time.Second)) + ")"} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			s.tb.Fatalf("faults: %s: %v", statement, err)
		}
	}
}
