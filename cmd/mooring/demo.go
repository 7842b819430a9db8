package main

import (
	"context"
	"errors"
)

type demoCommand struct {
	For string
}

func (d *demoCommand) Run(ctx context.Context, out *console) error { return errors.New("x") }
