package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// yamlFile resolves flags from a YAML file whose keys are the flags' names. Its
// values are texts as they stand in the file: flags know better than YAML what
// a date or a number is.
type yamlFile struct {
	name   string
	values map[string]string
}

// loadYAML is a kong.ConfigurationLoader.
func loadYAML(r io.Reader) (kong.Resolver, error) {
	name := "configuration file"
	if file, ok := r.(interface{ Name() string }); ok {
		name = file.Name()
	}
	var nodes map[string]yaml.Node
	if err := yaml.NewDecoder(r).Decode(&nodes); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	file := yamlFile{name: name, values: make(map[string]string, len(nodes))}
	for key, node := range nodes {
		switch {
		case node.Kind != yaml.ScalarNode:
			return nil, fmt.Errorf("%s, line %d: %s must be a single value", name, node.Line, key)
		case node.Tag != "!!null":
			file.values[key] = node.Value
		}
	}
	return file, nil
}

// Validate refuses keys that are no flag of any command: a typing error must
// not silently leave a default in place.
func (f yamlFile) Validate(application *kong.Application) error {
	var known []string
	err := kong.Visit(application, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			known = append(known, flag.Name)
		}
		return next(nil)
	})
	if err != nil {
		return err
	}
	for key := range f.values {
		if !slices.Contains(known, key) {
			return fmt.Errorf("%s: %q is no flag; keys are flags without the dashes in front, as %q", f.name, key, "data-dir")
		}
	}
	return nil
}

// Resolve leaves flags alone whose environment variable is set, which counts
// more than a file.
func (f yamlFile) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	value, ok := f.values[flag.Name]
	if !ok {
		return nil, nil //nolint:nilnil // kong's way of saying that nothing was found
	}
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return nil, nil //nolint:nilnil // see above
		}
	}
	return value, nil
}
