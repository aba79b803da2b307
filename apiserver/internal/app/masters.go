package app

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"

	"flagship/apiserver/internal/wire"
)

// masters is which API servers serve the cluster. Each keeps a key of its address in the store, which expires where it is not renewed: upstream's lease reconciler, whose servers
// may be among them.
type masters struct {
	client *clientv3.Client
	// prefix heads the keys.
	prefix string
	// address is this server's.
	address string
}

// masterTTL is how long a server counts that does not renew its key, upstream's.
const masterTTL = 15 * time.Second

func (m *masters) key() string { return path.Join(m.prefix, m.address) }

// renew says that this server serves.
func (m *masters) renew(ctx context.Context) error {
	raw, err := (&corev1.Endpoints{Subsets: []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: m.address}}}}}).Marshal()
	if err != nil {
		return err
	}
	lease, err := m.client.Grant(ctx, int64(masterTTL/time.Second))
	if err != nil {
		return fmt.Errorf("renew %s: %w", m.key(), err)
	}
	if _, err = m.client.Put(ctx, m.key(), string(wire.AppendEnvelope(nil, "v1", "Endpoints", raw)), clientv3.WithLease(lease.ID)); err != nil {
		return fmt.Errorf("renew %s: %w", m.key(), err)
	}
	return nil
}

// leave says that this server serves no more.
func (m *masters) leave(ctx context.Context) error {
	if _, err := m.client.Delete(ctx, m.key()); err != nil {
		return fmt.Errorf("delete %s: %w", m.key(), err)
	}
	return nil
}

var errNoMasters = errors.New("no API server IP addresses were listed in storage, refusing to erase all endpoints for the kubernetes Service")

// list are the addresses of the servers, in their order, each once.
func (m *masters) list(ctx context.Context) ([]netip.Addr, error) {
	resp, err := m.client.Get(ctx, m.prefix, clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("list the API servers: %w", err)
	}
	var out []netip.Addr
	for _, kv := range resp.Kvs {
		_, _, raw, _, err := wire.SplitEnvelope(kv.Value)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", kv.Key, err)
		}
		e := &corev1.Endpoints{}
		if err := e.Unmarshal(raw); err != nil {
			return nil, fmt.Errorf("read %s: %w", kv.Key, err)
		}
		if len(e.Subsets) == 0 || len(e.Subsets[0].Addresses) == 0 {
			continue
		}
		a, err := netip.ParseAddr(e.Subsets[0].Addresses[0].IP)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", kv.Key, err)
		}
		out = append(out, a)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out), nil
}
