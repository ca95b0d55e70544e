package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// newHealthcheck lets a container without a shell ask whether its process is
// ready.
func newHealthcheck(env environment) *cobra.Command {
	c := &cobra.Command{
		Use: "healthcheck", Args: cobra.NoArgs,
		Short: "Ask the relay on this machine whether it is ready",
		Long: "Asks /readyz at RELAY_METRICS_LISTEN, or at RELAY_LISTEN if that is not set:\n" +
			"exit 0 if the process is ready, else 1.",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := load(c, env, serverSettings)
			if err != nil {
				return err
			}
			return failed(checkHealth(c, cfg))
		},
	}
	addSettings(c, serverSettings)
	return c
}

func checkHealth(c *cobra.Command, cfg config) error {
	address := cfg.listen
	if cfg.metricsListen != "" {
		address = cfg.metricsListen
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	request, err := http.NewRequestWithContext(c.Context(), http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: 5 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("the relay does not answer: %w", err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	if response.StatusCode != http.StatusOK {
		return errors.New("not ready: " + string(body))
	}
	return nil
}
