// Package text holds the rules for what people type. Validation in the .proto
// bounds lengths; what it can't say is here: that a title isn't blank, is one
// line, and has nothing in it that can't be seen or stored.
package text

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tcmanager/tcmanager/service/fault"
)

// Line checks a text of one line, such as a title, and returns it without space
// around it. It must have something to see, at most limit characters, and no
// control characters. The field names it in the error.
func Line(field, s string, limit int) (string, error) {
	s = strings.TrimSpace(s)
	switch {
	case !visible(s):
		return "", fault.Field(field, "must not be blank")
	case utf8.RuneCountInString(s) > limit:
		return "", fault.Field(field, "must have at most %d characters", limit)
	case strings.ContainsFunc(s, breaksLine):
		return "", fault.Field(field, "must be one line without control characters")
	}
	return s, nil
}

// Block checks a text of any number of lines, such as a description, and returns
// it with line ends as \n. It may be blank. The field names it in the error.
func Block(field, s string) (string, error) {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	s = strings.ReplaceAll(s, "\r", "\n")
	if strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
		return "", fault.Field(field, "must be plain text without control characters")
	}
	return s, nil
}

// Remark is a Block that must have something to see, such as a comment; space
// around it is taken off.
func Remark(field, s string) (string, error) {
	s, err := Block(field, s)
	if err != nil {
		return "", err
	}
	if s = strings.TrimSpace(s); !visible(s) {
		return "", fault.Field(field, "must not be blank")
	}
	return s, nil
}

// Cut returns at most limit bytes of s, in whole characters, and whether
// something was cut off.
func Cut(s string, limit int) (string, bool) {
	if len(s) <= limit {
		return s, false
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit], true
}

// visible reports whether there is anything to see in s: zero-width characters
// are as blank as spaces.
func visible(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return unicode.IsGraphic(r) && !unicode.IsSpace(r) })
}

// breaksLine reports whether r ends a line or can't be shown.
func breaksLine(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }
