package storage

import (
	"slices"
	"testing"
)

// Who comes alone is a group of one; those who come while it is under way are
// the next, in the order in which they came, up to the most.
func TestCallsThatComeTogetherAreDoneTogether(t *testing.T) {
	t.Parallel()
	begun, end := make(chan []int), make(chan struct{})
	g := gathering[int]{most: 3, atOnce: 1, do: func(group []int) {
		begun <- group
		<-end
	}}
	g.add(0)
	groups := [][]int{<-begun}
	for call := 1; call <= 4; call++ {
		g.add(call)
	}
	for range 2 {
		end <- struct{}{}
		groups = append(groups, <-begun)
	}
	end <- struct{}{}
	if want := [][]int{{0}, {1, 2, 3}, {4}}; !slices.EqualFunc(groups, want, slices.Equal) {
		t.Errorf("groups %v, want %v", groups, want)
	}
}
