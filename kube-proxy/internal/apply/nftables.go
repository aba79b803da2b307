package apply

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sigs.k8s.io/knftables"

	"flagship/kube-proxy/internal/rules"
	"flagship/kube-proxy/internal/track"
)

// NFTables applies one family's rules as the table kube-proxy.
type NFTables struct {
	cfg       rules.Config
	nft       knftables.Interface
	committed *rules.Table // nil: not known, everything is replaced
}

// NewNFTables finds the nft command. It changes nothing.
//
// Errors: nft is missing, too old, or the kernel lacks nf_tables.
func NewNFTables(cfg rules.Config) (*NFTables, error) {
	nft, err := knftables.New(family(cfg.IPv6), rules.NFTTable)
	if err != nil {
		return nil, fmt.Errorf("nftables (%s): %w", family(cfg.IPv6), err)
	}
	return &NFTables{cfg: cfg, nft: nft}, nil
}

func family(ipv6 bool) knftables.Family {
	if ipv6 {
		return knftables.IPv6Family
	}
	return knftables.IPv4Family
}

// Forget makes the next Sync replace everything.
func (n *NFTables) Forget() { n.committed = nil }

// Sync commits the rules for a snapshot and says how many objects the transaction had.
func (n *NFTables) Sync(ctx context.Context, s *track.Snapshot, local rules.LocalTraffic) (int, error) {
	cfg := n.cfg
	cfg.Local = local
	want := rules.NFT(cfg, s)
	tx := n.nft.NewTransaction()
	if n.committed == nil {
		tx.Add(&knftables.Table{Comment: ptr("rules for kube-proxy")})
		tx.Delete(&knftables.Table{})
		tx.Add(&knftables.Table{Comment: ptr("rules for kube-proxy")})
	}
	fill(tx, want, rules.Diff(n.committed, want), n.committed)
	if tx.NumOperations() == 0 {
		return 0, nil
	}
	if err := n.nft.Run(ctx, tx); err != nil {
		n.committed = nil
		return 0, fmt.Errorf("nftables transaction: %w", err)
	}
	n.committed = want
	return tx.NumOperations(), nil
}

// fill puts a difference into a transaction, in an order in which nothing refers to what is not there.
func fill(tx *knftables.Transaction, want *rules.Table, d *rules.Delta, had *rules.Table) {
	for _, name := range d.AddChains {
		c := &knftables.Chain{Name: name}
		if b := want.Chains[name].Base; b != nil {
			c.Type, c.Hook = ptr(knftables.BaseChainType(b.Type)), ptr(knftables.BaseChainHook(b.Hook))
			c.Priority = ptr(knftables.BaseChainPriority(b.Priority))
		}
		tx.Add(c)
	}
	dropped := map[string]bool{}
	for _, name := range d.DropSets {
		dropped[name] = true
	}
	for _, name := range d.AddSets {
		if !dropped[name] {
			addSet(tx, name, want.Sets[name])
		}
	}
	// A set whose timeout changed is made anew: what refers to it must let go first.
	for _, name := range d.DropSets {
		if want.Sets[name] == nil {
			continue
		}
		detach(tx, had, name)
		tx.Delete(object(name, had.Sets[name]))
		addSet(tx, name, want.Sets[name])
	}
	rewritten := map[string]bool{}
	for _, name := range d.RewriteChains {
		rewritten[name] = true
		rewrite(tx, name, want.Chains[name])
	}
	for _, name := range d.DropSets {
		if want.Sets[name] != nil {
			reattach(tx, had, want, name, rewritten)
		}
	}
	for _, e := range d.DropElements {
		if want.Sets[e.Set] != nil {
			tx.Delete(element(had.Sets[e.Set], e))
		}
	}
	for _, e := range d.AddElements {
		tx.Add(element(want.Sets[e.Set], e))
	}
	for _, name := range d.DropChains {
		tx.Flush(&knftables.Chain{Name: name})
	}
	for _, name := range d.DropChains {
		tx.Delete(&knftables.Chain{Name: name})
	}
	for _, name := range d.DropSets {
		if want.Sets[name] == nil {
			tx.Delete(object(name, had.Sets[name]))
		}
	}
}

// rewrite replaces a chain's rules. A new chain is flushed too: nft took more time over a first sync without it.
func rewrite(tx *knftables.Transaction, name string, c *rules.Chain) {
	tx.Flush(&knftables.Chain{Name: name})
	for _, r := range c.Rules {
		tx.Add(&knftables.Rule{Chain: name, Rule: r})
	}
}

func users(t *rules.Table, set string) (out []string) {
	for name, c := range t.Chains {
		for _, r := range c.Rules {
			if strings.Contains(r, "@"+set+" ") {
				out = append(out, name)
				break
			}
		}
	}
	return out
}

func detach(tx *knftables.Transaction, had *rules.Table, set string) {
	for _, name := range users(had, set) {
		tx.Flush(&knftables.Chain{Name: name})
	}
}

func reattach(tx *knftables.Transaction, had, want *rules.Table, set string, done map[string]bool) {
	for _, name := range users(had, set) {
		if c := want.Chains[name]; c != nil && !done[name] {
			done[name] = true
			rewrite(tx, name, c)
		}
	}
}

func object(name string, s *rules.Set) knftables.Object {
	if s.Map {
		return &knftables.Map{Name: name, Type: s.Type}
	}
	return &knftables.Set{Name: name, Type: s.Type}
}

func addSet(tx *knftables.Transaction, name string, s *rules.Set) {
	if s.Map {
		tx.Add(&knftables.Map{Name: name, Type: s.Type})
		return
	}
	set := &knftables.Set{Name: name, Type: s.Type}
	if s.Flags != "" {
		for _, f := range strings.Split(s.Flags, ",") {
			set.Flags = append(set.Flags, knftables.SetFlag(f))
		}
		set.Timeout = ptr(time.Duration(s.Timeout) * time.Second)
	}
	tx.Add(set)
}

func element(s *rules.Set, e rules.Element) *knftables.Element {
	key := strings.Split(e.Key, " . ")
	if s.Map {
		return &knftables.Element{Map: e.Set, Key: key, Value: []string{e.Value}}
	}
	return &knftables.Element{Set: e.Set, Key: key}
}

// Cleanup removes the table.
func (n *NFTables) Cleanup(ctx context.Context) error {
	tx := n.nft.NewTransaction()
	tx.Add(&knftables.Table{})
	tx.Delete(&knftables.Table{})
	n.committed = nil
	return n.nft.Run(ctx, tx)
}

func ptr[T any](v T) *T { return &v }
