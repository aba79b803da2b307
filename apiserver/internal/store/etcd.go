package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// maxMessageBytes bounds what etcd sends and takes in one message; it is
// upstream's client limit.
const maxMessageBytes = 2 << 30

// ExternalConfig reaches an etcd cluster.
type ExternalConfig struct {
	Servers                   []string
	CAFile, CertFile, KeyFile string
}

// Dial connects to an external etcd cluster.
func Dial(cfg ExternalConfig, log *zap.Logger) (*clientv3.Client, error) {
	ec := clientv3.Config{
		Endpoints: cfg.Servers, DialTimeout: 20 * time.Second, Logger: log.Named("etcd-client").WithOptions(zap.IncreaseLevel(zap.ErrorLevel)),
		DialKeepAliveTime: 30 * time.Second, DialKeepAliveTimeout: 10 * time.Second,
		MaxCallRecvMsgSize: maxMessageBytes,
		DialOptions:        []grpc.DialOption{grpc.WithUserAgent("flagship-kube-apiserver")},
	}
	if cfg.CAFile != "" || cfg.CertFile != "" {
		info := transport.TLSInfo{TrustedCAFile: cfg.CAFile, CertFile: cfg.CertFile, KeyFile: cfg.KeyFile}
		tlsConfig, err := info.ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("etcd client certificate: %w", err)
		}
		ec.TLS = tlsConfig
	}
	client, err := clientv3.New(ec)
	if err != nil {
		return nil, fmt.Errorf("connect to etcd at %v: %w", cfg.Servers, err)
	}
	return client, nil
}

// EmbeddedConfig is an etcd server inside this process.
type EmbeddedConfig struct {
	DataDir string
	Name    string
	// ClientURL and PeerURL are where it listens; PeerAdvertise is how the
	// other members reach it.
	ClientURL, PeerURL, PeerAdvertise string
	// Certificates of the client port (mTLS) and the peer port.
	ClientCA, ClientCert, ClientKey string
	PeerCA, PeerCert, PeerKey       string
	// InitialCluster lists name=url of every member; empty means one member.
	InitialCluster string
	// Joining is whether the cluster exists already.
	Joining bool
	// Unsafe leaves out fsync, for benchmarks.
	Unsafe bool
}

// Embedded is a running etcd server and its in-process client.
type Embedded struct {
	etcd   *embed.Etcd
	Client *clientv3.Client
}

// StartEmbedded starts an etcd server in this process and waits until it
// serves.
func StartEmbedded(ctx context.Context, cfg EmbeddedConfig, log *zap.Logger) (*Embedded, error) {
	ec, err := embedConfig(cfg, log)
	if err != nil {
		return nil, err
	}
	e, err := embed.StartEtcd(ec)
	if err != nil {
		return nil, fmt.Errorf("start embedded etcd in %s: %w", cfg.DataDir, err)
	}
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		return nil, fmt.Errorf("embedded etcd: %w", err)
	case <-ctx.Done():
		e.Close()
		return nil, ctx.Err()
	}
	return &Embedded{etcd: e, Client: v3client.New(e.Server)}, nil
}

func embedConfig(cfg EmbeddedConfig, log *zap.Logger) (*embed.Config, error) {
	ec := embed.NewConfig()
	ec.Dir, ec.Name = cfg.DataDir, cfg.Name
	ec.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log.Named("etcd").WithOptions(zap.IncreaseLevel(zap.WarnLevel)))
	ec.UnsafeNoFsync = cfg.Unsafe
	ec.MaxRequestBytes = 3 << 20
	ec.QuotaBackendBytes = 8 << 30
	ec.SnapshotCount = 10000
	ec.WatchProgressNotifyInterval = 5 * time.Second
	ec.TickMs, ec.ElectionMs = 100, 1000
	if cfg.InitialCluster == "" && !cfg.Joining {
		// A member that is alone waits for nobody's answer, but for a random
		// part of this time before it elects itself. It is longer than two
		// heartbeats of the members that may join it.
		ec.TickMs, ec.ElectionMs = 50, 250
		// Entries that are applied are kept in memory for members that are
		// behind: one that joins gets a snapshot, and these after it.
		ec.SnapshotCatchUpEntries = 500
	}
	var err error
	parse := func(raw string) []url.URL {
		u, perr := url.Parse(raw)
		if perr != nil {
			err = errors.Join(err, fmt.Errorf("etcd URL %q: %w", raw, perr))
			return nil
		}
		return []url.URL{*u}
	}
	ec.ListenClientUrls = parse(cfg.ClientURL)
	ec.AdvertiseClientUrls = ec.ListenClientUrls
	ec.ListenPeerUrls = parse(cfg.PeerURL)
	ec.AdvertisePeerUrls = parse(cfg.PeerAdvertise)
	if err != nil {
		return nil, err
	}
	ec.InitialCluster = cfg.InitialCluster
	if ec.InitialCluster == "" {
		ec.InitialCluster = cfg.Name + "=" + cfg.PeerAdvertise
	}
	if cfg.Joining {
		ec.ClusterState = embed.ClusterStateFlagExisting
	}
	if cfg.ClientCert != "" {
		ec.ClientTLSInfo = transport.TLSInfo{CertFile: cfg.ClientCert, KeyFile: cfg.ClientKey, TrustedCAFile: cfg.ClientCA, ClientCertAuth: true}
	}
	if cfg.PeerCert != "" {
		ec.PeerTLSInfo = transport.TLSInfo{CertFile: cfg.PeerCert, KeyFile: cfg.PeerKey, TrustedCAFile: cfg.PeerCA, ClientCertAuth: true}
	}
	return ec, nil
}

// Failed yields the error that ended the server.
func (e *Embedded) Failed() <-chan error { return e.etcd.Err() }

// Close stops the server, its data on disk.
func (e *Embedded) Close() {
	_ = e.Client.Close()
	e.etcd.Close()
}
