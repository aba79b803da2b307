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
	table := scratch(Config{MasqueradeMark: 0x4000}, services(10000))
	p := services(18).Ports[17]
	one := &track.Snapshot{NodeName: "n", Only: track.Names{p.Service: {}}, Ports: []track.Port{p}}
	ends := []netip.AddrPort{p.Endpoints[1].Addr, netip.MustParseAddrPort("10.246.0.1:8080")}
	for n := 1; b.Loop(); n++ {
		p.Endpoints[1].Addr = ends[n%2]
		if table.Apply(one, LocalTraffic{}).Size() == 0 {
			b.Fatal("no difference")
		}
	}
}

// BenchmarkFirst is what the first table of 10,000 services costs.
func BenchmarkFirst(b *testing.B) {
	s := services(10000)
	for b.Loop() {
		scratch(Config{MasqueradeMark: 0x4000}, s)
	}
}
