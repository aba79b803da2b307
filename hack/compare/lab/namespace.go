package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace of its own, where a program may set rules. It has its loopback alone, on which an API server of the lab is reached.
type Namespace struct {
	Name     string
	listener net.Listener
}

// NewNamespace makes one, from which the server is reached at the server's own address. Close removes it.
func (l *Lab) NewNamespace(ctx context.Context, name string, s *Server) (*Namespace, error) {
	if out, err := exec.CommandContext(ctx, "ip", "netns", "add", name).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("ip netns add %s: %w: %s", name, err, out)
	}
	n := &Namespace{Name: name}
	if out, err := n.Run(ctx, "ip", "link", "set", "lo", "up"); err != nil {
		n.Close()
		return nil, fmt.Errorf("ip link set lo up: %w: %s", err, out)
	}
	address := s.Base[len("https://"):]
	var err error
	if n.listener, err = listenIn(name, address); err != nil {
		n.Close()
		return nil, err
	}
	go forward(n.listener, address)
	return n, nil
}

// Run runs a program in the namespace and returns what it wrote.
func (n *Namespace) Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", n.Name, name}, args...)...).CombinedOutput()
}

// StartIn starts a program in a namespace.
func (l *Lab) StartIn(ctx context.Context, n *Namespace, name, bin string, args ...string) (*Process, error) {
	return l.Start(ctx, name, "ip", append([]string{"netns", "exec", n.Name, bin}, args...)...)
}

// Close removes the namespace and all rules in it.
func (n *Namespace) Close() {
	if n.listener != nil {
		_ = n.listener.Close()
	}
	_ = exec.Command("ip", "netns", "del", n.Name).Run() //nolint:noctx // it takes a moment
}

// listenIn listens in another namespace: a socket stays in the one that it was made in.
func listenIn(name, address string) (net.Listener, error) {
	// The thread goes back to where it was, and lives on: programs that it started end with it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer func() { _ = own.Close() }()
	other, err := os.Open(filepath.Join("/run/netns", name))
	if err != nil {
		return nil, err
	}
	defer func() { _ = other.Close() }()
	if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter %s: %w", name, err)
	}
	l, err := net.Listen("tcp", address) //nolint:noctx // it takes a moment
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		return nil, fmt.Errorf("come back from %s: %w", name, back)
	}
	return l, err
}

// forward connects who comes to the listener with the address in this program's own namespace.
func forward(l net.Listener, address string) {
	for {
		in, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		go func() {
			defer func() { _ = in.Close() }()
			out, err := net.Dial("tcp", address) //nolint:noctx // it ends with the connection
			if err != nil {
				return
			}
			defer func() { _ = out.Close() }()
			var wg sync.WaitGroup
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				wg.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					_ = pair[0].Close()
					_ = pair[1].Close()
				})
			}
			wg.Wait()
		}()
	}
}
