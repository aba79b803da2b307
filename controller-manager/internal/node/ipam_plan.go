package node

import (
	"fmt"
	"math/big"
	"net/netip"
)

// pool hands out the ranges of one size out of a larger range, round robin.
type pool struct {
	all  netip.Prefix
	bits int
	used map[int]int // index to how many nodes hold it
	next int
}

func newPool(all netip.Prefix, bits int) *pool {
	return &pool{all: all, bits: bits, used: map[int]int{}}
}

func (p *pool) size() int { return 1 << (p.bits - p.all.Bits()) }

func (p *pool) at(i int) netip.Prefix {
	n := new(big.Int).SetBytes(p.all.Addr().AsSlice())
	n.Add(n, new(big.Int).Lsh(big.NewInt(int64(i)), uint(p.all.Addr().BitLen()-p.bits)))
	buf := make([]byte, p.all.Addr().BitLen()/8)
	n.FillBytes(buf)
	addr, _ := netip.AddrFromSlice(buf)
	return netip.PrefixFrom(addr, p.bits)
}

// indexes are the first and last range that r covers; ok is false where it is outside.
func (p *pool) indexes(r netip.Prefix) (first, last int, ok bool) {
	if r.Addr().Is4() != p.all.Addr().Is4() || !p.all.Overlaps(r) {
		return 0, 0, false
	}
	if r.Bits() <= p.all.Bits() {
		return 0, p.size() - 1, true
	}
	diff := new(big.Int).Sub(new(big.Int).SetBytes(r.Masked().Addr().AsSlice()), new(big.Int).SetBytes(p.all.Addr().AsSlice()))
	first = int(diff.Rsh(diff, uint(p.all.Addr().BitLen()-p.bits)).Int64())
	last = first
	if r.Bits() < p.bits {
		last += 1<<(p.bits-r.Bits()) - 1
	}
	return first, last, true
}

// occupy marks a range as used, release as free again. Ranges outside the pool do not concern it.
func (p *pool) occupy(r netip.Prefix) {
	if first, last, ok := p.indexes(r); ok {
		for i := first; i <= last; i++ {
			p.used[i]++
		}
	}
}

func (p *pool) release(r netip.Prefix) {
	first, last, ok := p.indexes(r)
	if !ok {
		return
	}
	for i := first; i <= last; i++ {
		if p.used[i]--; p.used[i] <= 0 {
			delete(p.used, i)
		}
	}
}

// take returns a free range and occupies it.
func (p *pool) take() (netip.Prefix, error) {
	for k := range p.size() {
		i := (p.next + k) % p.size()
		if p.used[i] == 0 {
			p.used[i]++
			p.next = (i + 1) % p.size()
			return p.at(i), nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range %s", p.all)
}
