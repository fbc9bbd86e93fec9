// Package web carries the built web page inside the server's binary.
//
// The page is built by "vite build" into dist, which is not committed; dist/.keep
// is, so that the package compiles before the page has ever been built. Whoever
// serves the page therefore has to expect that index.html may be missing.
package web

import (
	"embed"
	"io/fs"
)

//go:embed all:dist
var dist embed.FS

// FS is the built page: index.html at its root, files named by their content's
// hash below assets/. It holds nothing but .keep if the page was never built.
func FS() fs.FS {
	page, err := fs.Sub(dist, "dist")
	if err != nil {
		// Sub fails on an invalid path only, and this one is a constant.
		return dist
	}
	return page
}
