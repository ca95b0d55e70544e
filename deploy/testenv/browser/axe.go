package browser

import (
	"fmt"
	"strings"

	"oprelay/deploy/testenv"
)

// seriousFaults runs axe-core's rules, those of WCAG 2.2 AA and of good practice. For each that is
// broken so that people cannot use the page, or hardly, it says where, in up to three places.
const seriousFaults = `axe.run(Object.assign({ resultTypes: ['violations'] }, %s)).then(({ violations }) => violations
	.filter(({ impact }) => impact === 'critical' || impact === 'serious')
	.map(({ id, help, nodes }) => id + ', ' + nodes.length + ' times: ' + help + '\n' + nodes.slice(0, 3)
		.map(({ target, failureSummary }) => target.join(' ') + ': ' + failureSummary.replaceAll('\n', ' ')).join('\n')))`

// Faults are what keeps people with disabilities from using the page as it is shown. Given rules of axe-core's, only
// these are held against it.
func (b *Tab) Faults(rules ...string) []string {
	b.t.Helper()
	if !Value[bool](b, "typeof axe === 'object'") {
		Value[any](b, testenv.Axe(b.t)+"\n;0")
	}
	options := "{}"
	if len(rules) > 0 {
		options = fmt.Sprintf("{ runOnly: ['%s'] }", strings.Join(rules, "', '"))
	}
	return Value[[]string](b, fmt.Sprintf(seriousFaults, options))
}

// Overflow says what of the page is wider than the screen and would scroll it sideways; "" for nothing.
func (b *Tab) Overflow() string {
	b.t.Helper()
	const wider = `(() => {
		const width = document.documentElement.clientWidth;
		if (document.documentElement.scrollWidth <= width) return [];
		return [...document.body.querySelectorAll('*')]
			.filter((e) => e.getBoundingClientRect().right > width)
			.map((e) => e.outerHTML.slice(0, 120));
	})()`
	elements := Value[[]string](b, wider)
	if len(elements) == 0 {
		return ""
	}
	return fmt.Sprintf("%d elements, from %s", len(elements), strings.Join(elements[:min(3, len(elements))], "\n"))
}
