//go:build !race

package main

// slowed says whether this build is so slow that nothing can be said of its speed.
const slowed = false
