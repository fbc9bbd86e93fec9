// Package sample is a module whose tests end in every way a test can end. It is
// what the tests in a browser run: see clients/web/e2e.
package sample
