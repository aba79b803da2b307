package lab

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The tokens that servers of a lab know: an administrator's and that of jane, who may do nothing.
const (
	AdminToken = "lab-admin"
	JaneToken  = "lab-jane"
)

// Lab is the folder of a run and what is in it.
type Lab struct {
	// Upstream and Ours are folders of binaries.
	Upstream, Ours string
	// Sync makes etcd write its log through to the disk, as in earnest.
	Sync bool

	dir    string
	stores map[string]*store
}

// store is one etcd.
type store struct {
	url  string
	proc *Process
}

// New makes a lab, in a temporary folder.
func New(upstream, ours string) (*Lab, error) {
	for _, path := range []*string{&upstream, &ours} {
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp("", "flagship-lab-")
	if err != nil {
		return nil, err
	}
	l := &Lab{Upstream: upstream, Ours: ours, dir: dir, stores: map[string]*store{}}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	for name, data := range map[string][]byte{"sa.key": block, "tokens.csv": []byte(AdminToken + ",admin,1,system:masters\n" + JaneToken + ",jane,2\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Close ends the stores and removes the folder.
func (l *Lab) Close() {
	for _, s := range l.stores {
		s.proc.Stop()
	}
	l.unmount()
	_ = os.RemoveAll(l.dir)
}

// unmount lets go of what programs of the lab mounted in its folder, such as a kubelet its own.
func (l *Lab) unmount() {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for _, line := range slices.Backward(strings.Split(string(mounts), "\n")) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], l.dir+"/") {
			_ = unix.Unmount(f[1], unix.MNT_DETACH)
		}
	}
}

// Path is that of a file in the lab's folder.
func (l *Lab) Path(name string) string { return filepath.Join(l.dir, name) }

// Store starts upstream's etcd by this name, once.
func (l *Lab) Store(ctx context.Context, name string) (*Process, string, error) {
	if s := l.stores[name]; s != nil {
		return s.proc, s.url, nil
	}
	ports, err := FreePorts(2)
	if err != nil {
		return nil, "", err
	}
	url, peer := fmt.Sprintf("http://127.0.0.1:%d", ports[0]), fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	args := []string{
		"--data-dir=" + l.Path("etcd-"+name), "--listen-client-urls=" + url, "--advertise-client-urls=" + url, "--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer, "--initial-cluster=default=" + peer,
	}
	if !l.Sync {
		args = append(args, "--unsafe-no-fsync")
	}
	proc, err := l.Start(ctx, "etcd-"+name, filepath.Join(l.Upstream, "etcd"), args...)
	if err != nil {
		return nil, "", err
	}
	l.stores[name] = &store{url: url, proc: proc}
	return proc, url, nil
}

// Embedded are the arguments with which our API server has its etcd in it. Its certificates are made by our ctl, once.
func (l *Lab) Embedded(ctx context.Context) ([]string, error) {
	pki := l.Path("pki")
	if _, err := os.Stat(pki); err != nil {
		out, err := exec.CommandContext(ctx, filepath.Join(l.Ours, "ctl"), "init", "phase", "certs", "--cert-dir", pki).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("ctl init phase certs: %w\n%s", err, out)
		}
	}
	ports, err := FreePorts(2)
	if err != nil {
		return nil, err
	}
	args := []string{
		"--etcd-data-dir=" + l.Path("etcd-in-ours"), fmt.Sprintf("--etcd-listen-client-url=https://127.0.0.1:%d", ports[0]), fmt.Sprintf("--etcd-listen-peer-url=https://127.0.0.1:%d", ports[1]),
	}
	for _, side := range []string{"server", "peer"} {
		args = append(args, "--etcd-"+side+"-cert-file="+pki+"/etcd/"+side+".crt", "--etcd-"+side+"-key-file="+pki+"/etcd/"+side+".key", "--etcd-"+side+"-ca-file="+pki+"/etcd/ca.crt")
	}
	return args, nil
}

// Server is one API server.
type Server struct {
	Name string
	// Base is its URL.
	Base string
	HTTP *http.Client
	Proc *Process
	// Took is from exec to ready.
	Took time.Duration
}

// Serve starts the kube-apiserver of a folder and waits until it is ready. Its store is that of the arguments: Store gives the URL for
// --etcd-servers.
func (l *Lab) Serve(ctx context.Context, name, bin string, args ...string) (*Server, error) {
	ports, err := FreePorts(1)
	if err != nil {
		return nil, err
	}
	s := &Server{Name: name, Base: fmt.Sprintf("https://127.0.0.1:%d", ports[0]), HTTP: &http.Client{
		Timeout: 5 * time.Minute,
		// The certificate was made a moment ago for this run alone.
		// HTTP/2, as client-go speaks it.
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true},
	}}
	begin := time.Now()
	s.Proc, err = l.Start(ctx, name, filepath.Join(bin, "kube-apiserver"), append([]string{
		fmt.Sprintf("--secure-port=%d", ports[0]), "--bind-address=127.0.0.1", "--advertise-address=192.0.2.1",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-signing-key-file=" + l.Path("sa.key"), "--service-account-key-file=" + l.Path("sa.key"),
		"--token-auth-file=" + l.Path("tokens.csv"), "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true", "--service-cluster-ip-range=10.96.0.0/16", "--cert-dir=" + l.Path(name+"-certs"),
	}, args...)...)
	if err != nil {
		return nil, err
	}
	if err := s.ready(ctx); err != nil {
		s.Proc.Stop()
		return nil, err
	}
	s.Took = time.Since(begin)
	return s, nil
}

// ready waits until a server says so.
func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Base+"/readyz", nil)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+AdminToken)
		if resp, err := s.HTTP.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s is not ready after two minutes; the end of its log:\n%s", s.Name, s.Proc.Tail()), ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Kubeconfig writes a file by which a program is the administrator of a server, and says where it is.
func (l *Lab) Kubeconfig(s *Server) (string, error) {
	path := l.Path(s.Name + ".conf")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: lab
clusters: [{name: lab, cluster: {server: %q, insecure-skip-tls-verify: true}}]
users: [{name: lab, user: {token: %s}}]
contexts: [{name: lab, context: {cluster: lab, user: lab}}]
`, s.Base, AdminToken)
	return path, os.WriteFile(path, []byte(text), 0o600)
}
