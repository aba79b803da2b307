package wire

import "strings"

// Bounds of a quantity's text: what canonical ones have is far below. The parser takes the square of the digits, and ten to the power of the exponent.
const (
	maxQuantity       = 100
	maxExponentDigits = 4
)

// CostlyQuantity is whether the parser of quantities would take long for a text.
func CostlyQuantity(text string) bool {
	if text == "" || !strings.ContainsRune("+-.0123456789", rune(text[0])) {
		return false // it is none
	}
	if len(text) > maxQuantity {
		return true
	}
	i := strings.IndexAny(text, "eE")
	return i >= 0 && len(strings.TrimLeft(text[i+1:], "+-0")) > maxExponentDigits
}

// MayBeCostly is whether a text of JSON or bytes of protobuf may have a quantity in them that CostlyQuantity finds, which is told at the speed of reading:
// it looks for many digits, whoever has them, and for escapes in which they may hide.
func MayBeCostly(data []byte) bool {
	run, exponent := 0, false
	for i, c := range data {
		switch {
		case c >= '0' && c <= '9':
			if run++; run > maxQuantity/2 || exponent && run > maxExponentDigits {
				return true
			}
			continue
		case c == 'u' && i > 0 && data[i-1] == '\\':
			return true
		case c == '.' && !exponent:
			// A long number may have a point in it anywhere.
			continue
		case (c == '+' || c == '-') && run == 0 && exponent:
			continue
		}
		run, exponent = 0, c == 'e' || c == 'E'
	}
	return false
}
