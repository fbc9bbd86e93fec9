// Package page is how long lists are read in parts: sizes, and tokens that say
// where the next part begins.
//
// A token is opaque to clients. It names its list, so that the token of another
// list is refused and not taken for a place in this one.
package page

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/tcmanager/tcmanager/service/fault"
)

// List names a list, for example "comments".
type List string

// ErrToken is the answer to a token that no answer to such a request ever gave.
var ErrToken = fault.Field("page_token", "must be the next_page_token of an earlier answer to the same request; leave it empty to start at the first page")

// Token makes the token of the page that begins after a cursor; the empty cursor
// has the empty token.
func (l List) Token(cursor string) string {
	if cursor == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(string(l) + ":" + cursor))
}

// NumberToken makes the token of the page that begins after a number.
func (l List) NumberToken(n uint64) string { return l.Token(strconv.FormatUint(n, 10)) }

// cursor reads a token from a client. The empty token is the first page and
// gives the empty cursor.
func (l List) cursor(token string) (string, error) {
	if token == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", ErrToken
	}
	list, cursor, ok := strings.Cut(string(b), ":")
	if !ok || list != string(l) || cursor == "" {
		return "", ErrToken
	}
	return cursor, nil
}

// UUID reads a token whose cursor is the id of an item.
func (l List) UUID(token string) (string, error) {
	cursor, err := l.cursor(token)
	if err != nil || cursor == "" {
		return "", err
	}
	id, err := uuid.Parse(cursor)
	if err != nil {
		return "", ErrToken
	}
	return id.String(), nil
}

// Number reads a token whose cursor is a number, of an item or a place; the empty
// token gives 0. It is below 1<<63.
func (l List) Number(token string) (uint64, error) {
	cursor, err := l.cursor(token)
	if err != nil || cursor == "" {
		return 0, err
	}
	n, err := strconv.ParseUint(cursor, 10, 63)
	if err != nil {
		return 0, ErrToken
	}
	return n, nil
}

// Size is how many items a page holds: those asked for, or for 0 the default.
func Size(asked uint32, byDefault int) int {
	if asked == 0 {
		return byDefault
	}
	return int(asked)
}

// Cut makes a page of at most size items from items that were read with a limit
// of size+1. It returns the page and the cursor of its last item, which is empty
// when nothing follows.
func Cut[T any](items []T, size int, cursor func(T) string) ([]T, string) {
	if len(items) <= size || size <= 0 {
		return items, ""
	}
	items = items[:size]
	return items, cursor(items[size-1])
}
