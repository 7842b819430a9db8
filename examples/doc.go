// Package examples is the test of the programs in its folders: each one runs
// against the built server, through a proxy that cuts its connections, and every
// row that it measured must be stored once.
package examples
