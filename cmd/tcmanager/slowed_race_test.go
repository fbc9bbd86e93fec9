//go:build race

package main

// slowed: the race detector makes everything several times slower, and the tests
// that run at the same time take the rest.
const slowed = true
