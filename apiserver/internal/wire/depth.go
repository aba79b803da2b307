package wire

import (
	"errors"
	"slices"
)

// ErrCostly is why a message is refused whose quantities take long to parse.
var ErrCostly = errors.New("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")

// Check is an error where raw, a message of the program's type, would cost its decoder too much: where messages nest so deeply that a decoder that calls itself
// for each ends the process, or a quantity takes long to parse. It is cheap for what can have neither.
func (p *Program) Check(raw []byte) error {
	if !p.nests && !MayBeCostly(raw) {
		return nil
	}
	return p.root.check(raw, 0)
}

func (m *message) check(raw []byte, depth int) error {
	if depth > maxDepth {
		return errDepth
	}
	return eachBytes(raw, func(num int32, v []byte) error {
		if num < 0 || int(num) >= len(m.byNum) || m.byNum[num] == 0 {
			return nil
		}
		slot := int(m.byNum[num]) - 1
		i := slices.IndexFunc(m.fields, func(f field) bool { return f.slot == slot })
		if i < 0 {
			return nil
		}
		f := &m.fields[i]
		if f.card != mapped {
			return f.value.check(v, depth+1)
		}
		return eachBytes(v, func(num int32, v []byte) error {
			if num != 2 {
				return nil
			}
			return f.value.check(v, depth+1)
		})
	})
}

func (v *value) check(raw []byte, depth int) error {
	switch {
	case v.msg != nil:
		return v.msg.check(raw, depth)
	case v.op == opQuantity:
		return eachBytes(raw, func(num int32, text []byte) error {
			if num == 1 && CostlyQuantity(string(text)) {
				return ErrCostly
			}
			return nil
		})
	}
	return nil
}

// nests says whether a message of this type may hold another of a type that it is within. done are the types that cannot.
func (m *message) nests(within, done map[*message]bool) bool {
	if within[m] || done[m] {
		return within[m]
	}
	within[m] = true
	for i := range m.fields {
		if inner := m.fields[i].value.msg; inner != nil && inner.nests(within, done) {
			return true
		}
	}
	delete(within, m)
	done[m] = true
	return false
}
