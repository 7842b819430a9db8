package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

type healthcheckCommand struct {
	URL     string        `name:"url" default:"http://127.0.0.1:8080/healthz" env:"MOORING_HEALTHCHECK_URL" help:"What to ask: /healthz (alive) or /readyz (ready for devices)."`
	Timeout time.Duration `default:"5s" help:"How long an answer may take."`
}

func (healthcheckCommand) Help() string {
	return "Succeeds if the server answers with 200. It is there for containers whose image holds no other program that could ask."
}

// Run asks once.
func (h *healthcheckCommand) Run(ctx context.Context, out *console) error {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL, http.NoBody)
	if err != nil {
		return usageErrorf("--url: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("no answer: %w.\nIf the server listens elsewhere, say where: --url", trimDot(err))
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(answer)))
	}
	fmt.Fprintln(out.stdout, strings.TrimSpace(string(answer)))
	return nil
}
