package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// token is the administrator's on both servers.
const token = "diff-token"

// process is a program that this one started.
type process struct {
	cmd *exec.Cmd
	log string
}

func start(ctx context.Context, dir, name, bin string, args ...string) (*process, error) {
	log := filepath.Join(dir, name+".log")
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	// What outlives this program by accident ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return &process{cmd: cmd, log: log}, nil
}

// stop ends a process as an operator does, and waits for it.
func (p *process) stop() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		_ = p.cmd.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-done
	}
}

// freePorts are ports that nobody listened on a moment ago.
func freePorts(n int) ([]int, error) {
	out := make([]int, n)
	for i := range out {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		out[i] = l.Addr().(*net.TCPAddr).Port
	}
	return out, nil
}

// lab is the folder of a run and what is in it.
type lab struct {
	dir            string
	upstream, ours string // folders of binaries
	etcds          map[string]int
	etcd           map[string]*process
}

func newLab(upstream, ours string) (*lab, error) {
	dir, err := os.MkdirTemp("", "flagship-diff-")
	if err != nil {
		return nil, err
	}
	l := &lab{dir: dir, upstream: upstream, ours: ours, etcds: map[string]int{}, etcd: map[string]*process{}}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	for name, data := range map[string][]byte{"sa.key": block, "tokens.csv": []byte(token + ",admin,1,system:masters\nuser-token,jane,2\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (l *lab) close() {
	for _, p := range l.etcd {
		p.stop()
	}
	_ = os.RemoveAll(l.dir)
}

// store starts an etcd, once.
func (l *lab) store(ctx context.Context, name string) (string, error) {
	if port := l.etcds[name]; port != 0 {
		return fmt.Sprintf("http://127.0.0.1:%d", port), nil
	}
	ports, err := freePorts(2)
	if err != nil {
		return "", err
	}
	url, peer := fmt.Sprintf("http://127.0.0.1:%d", ports[0]), fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	l.etcd[name], err = start(ctx, l.dir, "etcd-"+name, filepath.Join(l.upstream, "etcd"), "--data-dir="+filepath.Join(l.dir, "etcd-"+name),
		"--listen-client-urls="+url, "--advertise-client-urls="+url, "--listen-peer-urls="+peer,
		"--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer, "--unsafe-no-fsync")
	l.etcds[name] = ports[0]
	return url, err
}

// side is one of the two servers.
type side struct {
	name string
	base string
	http *http.Client
	proc *process
}

// serve starts a server on a store and waits until it is ready.
func (l *lab) serve(ctx context.Context, name, bin, store string) (*side, error) {
	url, err := l.store(ctx, store)
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	s := &side{name: name, base: fmt.Sprintf("https://127.0.0.1:%d", ports[0]), http: &http.Client{
		Timeout: time.Minute,
		// The certificate was made a moment ago for this run alone.
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 8},
	}}
	sa := filepath.Join(l.dir, "sa.key")
	s.proc, err = start(ctx, l.dir, name+"-on-"+store, filepath.Join(bin, "kube-apiserver"),
		fmt.Sprintf("--secure-port=%d", ports[0]), "--bind-address=127.0.0.1", "--advertise-address=192.0.2.1", "--etcd-servers="+url,
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-signing-key-file="+sa, "--service-account-key-file="+sa,
		"--token-auth-file="+filepath.Join(l.dir, "tokens.csv"), "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true", "--service-cluster-ip-range=10.96.0.0/16", "--cert-dir="+filepath.Join(l.dir, name+"-certs"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		if a, err := s.do(ctx, request{method: "GET", path: "/readyz"}); err == nil && a.code == http.StatusOK {
			return s, nil
		}
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile(s.proc.log)
			return nil, errors.Join(fmt.Errorf("%s is not ready after two minutes; the end of its log:\n%s", name, log[max(0, len(log)-2000):]), ctx.Err())
		case <-time.After(250 * time.Millisecond):
		}
	}
}
