package pipe

import (
	"cmp"
	"maps"
	"slices"
)

// InOrder lists reservations as they came: by their numbers.
func InOrder[V any](m map[uint64]V) []V { return Sorted(m, cmp.Compare[uint64]) }

// Sorted lists what is in a map in the order of its keys, which can be repeated.
func Sorted[K comparable, V any](m map[K]V, compare func(K, K) int) []V {
	list := make([]V, 0, len(m))
	for _, k := range slices.SortedFunc(maps.Keys(m), compare) {
		list = append(list, m[k])
	}
	return list
}
