// Package chart draws what becomes of the relay as its watches grow in number.
package chart

import (
	"fmt"
	"strconv"

	"github.com/go-analyze/charts"
)

// Point is what was measured with so many watches pending. Rates are per second,
// latencies in milliseconds, memory in MiB.
type Point struct {
	Watches          int     `json:"watches"`
	RegistrationRate float64 `json:"registration_rate"` // in batches
	FirstPollRate    float64 `json:"first_poll_rate"`   // registered and polled once
	RegistrationP50  float64 `json:"registration_p50"`
	RegistrationP99  float64 `json:"registration_p99"`
	ListP50          float64 `json:"list_p50"`
	ListP99          float64 `json:"list_p99"`
	Overdue          float64 `json:"overdue_seconds"` // of the poll that waits the longest
	PollRate         float64 `json:"poll_rate"`       // on schedule
	API              float64 `json:"api"`             // the most it ever had
	Worker           float64 `json:"worker"`          // the most it ever had
	Redis            float64 `json:"redis"`
}

// curve is one line of a panel.
type curve struct {
	name string
	of   func(Point) float64
}

// panel is one of the charts, which stand one below the other.
type panel struct {
	title  string
	curves []curve
}

func panels() []panel {
	return []panel{
		{"watches a second", []curve{
			{"registered, in batches", func(p Point) float64 { return p.RegistrationRate }},
			{"registered and polled", func(p Point) float64 { return p.FirstPollRate }},
		}},
		{"milliseconds", []curve{
			{"registration p50", func(p Point) float64 { return p.RegistrationP50 }},
			{"registration p99", func(p Point) float64 { return p.RegistrationP99 }},
			{"list page p50", func(p Point) float64 { return p.ListP50 }},
			{"list page p99", func(p Point) float64 { return p.ListP99 }},
		}},
		{"MiB", []curve{
			{"API, peak", func(p Point) float64 { return p.API }},
			{"worker, peak", func(p Point) float64 { return p.Worker }},
			{"Redis", func(p Point) float64 { return p.Redis }},
		}},
	}
}

// SVG draws throughput, latency and memory, each point as far from the next as any
// other: their numbers of watches are powers of ten.
func SVG(points []Point) ([]byte, error) {
	const width, height = 800, 260
	all := panels()
	sheet := charts.NewPainter(charts.PainterOptions{
		OutputFormat: charts.ChartOutputSVG, Width: width, Height: height * len(all),
	})
	for i, p := range all {
		box := charts.Box{Top: i * height, Right: width, Bottom: (i + 1) * height, IsSet: true}
		if err := sheet.Child(charts.PainterBoxOption(box)).LineChart(p.option(points)); err != nil {
			return nil, fmt.Errorf("draw %s: %w", p.title, err)
		}
	}
	return sheet.Bytes()
}

func (p panel) option(points []Point) charts.LineChartOption {
	values, names := make([][]float64, len(p.curves)), make([]string, len(p.curves))
	for i, c := range p.curves {
		names[i] = c.name
		for _, point := range points {
			values[i] = append(values[i], c.of(point))
		}
	}
	option := charts.NewLineChartOptionWithData(values)
	option.Title.Text = p.title + ", by pending watches"
	option.ValueFormatter = func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	option.Legend.SeriesNames = names
	option.XAxis.Labels = nil
	for _, point := range points {
		option.XAxis.Labels = append(option.XAxis.Labels, grouped(point.Watches))
	}
	return option
}

// grouped is the number with a comma before each three digits.
func grouped(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return grouped(n/1000) + fmt.Sprintf(",%03d", n%1000)
}
