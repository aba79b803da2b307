package rules

import (
	"fmt"
	"net/netip"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/kube-proxy/internal/track"
)

func services(n int) *track.Snapshot {
	s := &track.Snapshot{NodeName: "n"}
	for i := range n {
		s.Ports = append(s.Ports, track.Port{
			Service: types.NamespacedName{Namespace: "bench", Name: fmt.Sprintf("s%05d", i)}, Name: "http", Protocol: v1.ProtocolTCP,
			ClusterIP: netip.AddrFrom4([4]byte{10, 96, byte(i / 250), byte(1 + i%250)}), Port: 80,
			Endpoints: []track.Endpoint{
				{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(i / 250), byte(1 + i%250)}), 8080), Ready: true, Serving: true},
				{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 245, byte(i / 250), byte(1 + i%250)}), 8080), Ready: true, Serving: true},
			},
		})
	}
	return s
}

// BenchmarkOneChange is what one changed endpoint among 10,000 services costs before nft is asked.
func BenchmarkOneChange(b *testing.B) {
	cfg := Config{MasqueradeMark: 0x4000}
	s := services(10000)
	before := NFT(cfg, s)
	s.Ports[17].Endpoints[1].Addr = netip.MustParseAddrPort("10.246.0.1:8080")
	for b.Loop() {
		if Diff(before, NFT(cfg, s)).Empty() {
			b.Fatal("no difference")
		}
	}
}
