// Command registry serves container images from memory to those who know the password, for the cluster test.
package main

import (
	"crypto/subtle"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:5000", "address")
	user := flag.String("user", "", "who may pull and push")
	password := flag.String("password", "", "and by which password")
	flag.Parse()
	if err := run(*listen, *user, *password, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}

// run serves the images given as NAME=TARBALL, each under its name.
func run(listen, user, password string, images []string) error {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	inner := registry.New(registry.Logger(log.New(os.Stderr, "", 0)))
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, p, ok := r.BasicAuth()
		if !ok || subtle.ConstantTimeCompare([]byte(u+":"+p), []byte(user+":"+password)) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	})}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	for _, arg := range images {
		as, path, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q is not NAME=TARBALL", arg)
		}
		ref, err := name.ParseReference(ln.Addr().String()+"/"+as, name.Insecure)
		if err != nil {
			return err
		}
		img, err := tarball.ImageFromPath(path, nil)
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		// An image of its own: the node takes images of the same content for the same, whatever their names.
		if img, err = mutate.CreatedAt(img, v1.Time{Time: time.Unix(1, 0)}); err != nil {
			return err
		}
		if err := remote.Write(ref, img, remote.WithAuth(&authn.Basic{Username: user, Password: password})); err != nil {
			return fmt.Errorf("push %s: %w", as, err)
		}
	}
	return <-served
}
