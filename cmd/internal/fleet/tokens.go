package fleet

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
)

// ReadTokens reads the CSV file that `mooring device add --count … --out` writes:
// a device's name and its token on each line, with or without a header.
func ReadTokens(path string) ([]Credential, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("fleet: tokens: %w", err)
	}
	defer file.Close()
	reader := csv.NewReader(file)
	reader.FieldsPerRecord = -1
	reader.Comment = '#'
	var tokens []Credential
	for {
		record, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("fleet: tokens: %w", err)
		}
		if len(record) < 2 || record[0] == "" || record[1] == "" {
			line, _ := reader.FieldPos(0)
			return nil, fmt.Errorf("fleet: tokens: line %d is not name,token", line)
		}
		if len(tokens) == 0 && record[0] == "name" && record[1] == "token" {
			continue
		}
		tokens = append(tokens, Credential{Name: record[0], Token: record[1]})
	}
	if len(tokens) == 0 {
		return nil, fmt.Errorf("fleet: tokens: %s names no device", path)
	}
	return tokens, nil
}
