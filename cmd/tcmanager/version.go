package main

import "runtime/debug"

// version is set by the linker: -ldflags "-X main.version=0.1.0". It is "dev" for
// an unversioned build.
var version = "dev"

// revision is the commit that the binary was built from; empty if unknown.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	var commit, changed string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "+changes"
		}
	}
	if commit == "" {
		return ""
	}
	return "(" + commit + changed + ")"
}
