package sqldb

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
)

// A page of a search looks at a bounded number of rows, and following Next finds every row
// that fits, once.
func TestSearchPage(t *testing.T) {
	t.Parallel()
	const rows = 10 * mostLooked
	id := func(n int) string { return fmt.Sprintf("%06d", n) }
	for _, every := range []int{1, 3, 700, rows - 1, 2 * rows} {
		for _, limit := range []int{0, 1, 50, 200} {
			looked := 0
			read := func(page Page) (List[int], error) {
				from := rows - 1
				if page.After != "" {
					from, _ = strconv.Atoi(page.After)
					from--
				}
				var list []int
				for n := from; n >= 0 && len(list) <= page.Limit; n-- {
					list = append(list, n)
				}
				looked += len(list)
				return Cut(list, page.Limit, id), nil
			}
			var found, want []int
			for page := (Page{Limit: limit}); ; looked = 0 {
				list, err := SearchPage(page, read, func(n int) bool { return n%every == 1%every }, id)
				if err != nil {
					t.Fatal(err)
				}
				if looked > mostLooked+2*mostAtOnce || len(list.Data) > max(limit, 1) {
					t.Fatalf("every %d: a page of %d looked at %d for %d", every, limit, looked, len(list.Data))
				}
				found = append(found, list.Data...)
				if page.After = list.Next; page.After == "" {
					break
				}
			}
			for n := rows - 1; n >= 0; n-- {
				if n%every == 1%every {
					want = append(want, n)
				}
			}
			if !slices.Equal(found, want) {
				t.Errorf("every %d, pages of %d: found %d of %d", every, limit, len(found), len(want))
			}
		}
	}
}
