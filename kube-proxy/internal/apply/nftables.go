package apply

import (
	"context"
	"fmt"
	"strings"

	"flagship/kube-proxy/internal/rules"
	"flagship/kube-proxy/internal/track"
)

// NFTables applies one family's rules as the table kube-proxy.
type NFTables struct {
	cfg       rules.Config
	committed *rules.NFT // nil: not known, everything is replaced
}

// NewNFTables finds the nft command. It changes nothing.
//
// Errors: nft is missing, too old, or the kernel lacks nf_tables.
func NewNFTables(ctx context.Context, cfg rules.Config) (*NFTables, error) {
	n := &NFTables{cfg: cfg}
	if err := n.nft(ctx, n.addTable(), "--check"); err != nil {
		return nil, fmt.Errorf("nftables (%s): %w", n.family(), err)
	}
	return n, nil
}

func (n *NFTables) nft(ctx context.Context, script string, args ...string) error {
	_, err := run(ctx, script, "nft", append(args, "-f", "-")...)
	return err
}

func (n *NFTables) family() string {
	if n.cfg.IPv6 {
		return "ip6"
	}
	return "ip"
}

// Sync commits the rules for a snapshot and says how many objects the transaction had. The first snapshot, and the first
// after an error, is to be of all services: it replaces everything.
func (n *NFTables) Sync(ctx context.Context, s *track.Snapshot, local rules.LocalTraffic) (int, error) {
	var b strings.Builder
	table := n.committed
	if table == nil {
		if s.Only != nil {
			return 0, fmt.Errorf("nftables: what is in the kernel is not known, and the snapshot is of %d services alone", len(s.Only))
		}
		table = rules.NewNFT(n.cfg)
		b.WriteString(n.replaceTable())
	}
	d := table.Apply(s, local)
	if n.committed != nil && d.Size() == 0 {
		return 0, nil
	}
	n.write(&b, d)
	n.committed = nil
	if err := n.nft(ctx, b.String()); err != nil {
		return 0, fmt.Errorf("nftables transaction: %w", err)
	}
	n.committed = table
	return d.Size(), nil
}

func (n *NFTables) addTable() string {
	return "add table " + n.family() + ` kube-proxy { comment "rules for kube-proxy" ; }` + "\n"
}

func (n *NFTables) dropTable() string {
	return n.addTable() + "delete table " + n.family() + " " + rules.NFTTable + "\n"
}

func (n *NFTables) replaceTable() string { return n.dropTable() + n.addTable() }

// write puts a difference into a script, in an order in which nothing refers to what is not there. What nft does for a
// statement differs: to empty or to add a chain is cheap, but for a rule, an element or a deletion it reads all chains of the
// table first, once a script.
func (n *NFTables) write(b *strings.Builder, d *rules.Delta) {
	line := func(verb, what, name, rest string) {
		for _, s := range []string{verb, " ", what, " ", n.family(), " ", rules.NFTTable, " ", name, rest, "\n"} {
			b.WriteString(s)
		}
	}
	for _, c := range d.AddChains {
		kind := ""
		if c.Base != nil {
			kind = fmt.Sprintf(" { type %s hook %s priority %s ; }", c.Base.Type, c.Base.Hook, c.Base.Priority)
		}
		line("add", "chain", c.Name, kind)
	}
	for _, c := range d.RewriteChains {
		line("flush", "chain", c.Name, "")
	}
	for _, name := range d.DropChains {
		line("flush", "chain", name, "")
	}
	for _, s := range d.DropSets {
		line("delete", s.Kind(), s.Name, "")
	}
	for _, s := range d.AddSets {
		flags := ""
		if s.Flags != "" {
			flags = fmt.Sprintf("flags %s ; timeout %ds ; ", s.Flags, s.Timeout)
		}
		line("add", s.Kind(), s.Name, " { type "+s.Type+" ; "+flags+"}")
	}
	for _, c := range d.RewriteChains {
		for _, r := range c.Rules {
			line("add", "rule", c.Name, " "+r)
		}
	}
	n.elements(b, "delete", d.DropElements)
	n.elements(b, "add", d.AddElements)
	for _, name := range d.DropChains {
		line("delete", "chain", name, "")
	}
}

// elements has one statement for the elements of a set, which are together in the list.
func (n *NFTables) elements(b *strings.Builder, verb string, list []rules.Element) {
	for i, e := range list {
		if i == 0 || list[i-1].Set != e.Set {
			fmt.Fprintf(b, "%s element %s %s %s {", verb, n.family(), rules.NFTTable, e.Set)
		}
		b.WriteString(" ")
		b.WriteString(e.Key)
		if e.Value != "" {
			b.WriteString(" : ")
			b.WriteString(e.Value)
		}
		if i+1 < len(list) && list[i+1].Set == e.Set {
			b.WriteString(",")
		} else {
			b.WriteString(" }\n")
		}
	}
}

// Cleanup removes the table.
func (n *NFTables) Cleanup(ctx context.Context) error {
	n.committed = nil
	return n.nft(ctx, n.dropTable())
}
