// Package deploytest checks Dockerfile and docker-compose.yml without a Docker
// engine: what can be read is held against what docs/OPERATIONS.md promises.
package deploytest
